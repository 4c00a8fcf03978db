"""Check the status of every route for each method and role against ``access_table.txt``.

A route without a line fails, and so does another status. To change access on purpose, change the line in the table.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from pytest_django import Settings

from catalogmatch.accounts.roles import ROLES
from tests.helpers.accounts import user_in
from tests.helpers.web.routes import Ids, address, all_routes, make_rows

TABLE = Path(__file__).with_name("access_table.txt")
IDENTITIES = ("anonymous", *ROLES, "superuser")
API_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PAGE_METHODS = ("GET", "POST")


def calls() -> list[tuple[str, str]]:
    """Return (method, route) of every possible call, in the order of the routes."""
    return [
        (method, route)
        for route in all_routes()
        for method in (PAGE_METHODS if route.startswith("admin") else API_METHODS)
    ]


def table() -> dict[tuple[str, str], dict[str, int]]:
    """Read the checked-in table as (method, route) → identity → status."""
    header, *lines = [line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    assert header == ["method", "route", *IDENTITIES]
    return {
        (method, "" if route == "/" else route): dict(zip(IDENTITIES, map(int, statuses), strict=True))
        for method, route, *statuses in lines
    }


@pytest.fixture
def ids(db: None) -> Ids:
    return make_rows(user_in("uploader"))


def client_as(identity: str) -> Client:
    client = Client(raise_request_exception=False)
    if identity == "superuser":
        client.force_login(User.objects.create_superuser("superuser"))
    elif identity != "anonymous":
        client.force_login(user_in(identity))
    return client


def test_every_route_has_a_line_and_every_line_a_route() -> None:
    assert sorted(table()) == sorted(calls())


@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_route_returns_the_status_of_the_table(identity: str, ids: Ids, settings: Settings) -> None:
    settings.METRICS_TOKEN = "the scraper's"
    responses = {}
    for method, route in calls():
        # Roll back the changes of each call before the next one, including the session.
        with transaction.atomic():
            responses[method, route] = client_as(identity).generic(method, address(route, ids)).status_code
            transaction.set_rollback(True)
    assert responses == {call: statuses[identity] for call, statuses in table().items()}
    assert not [call for call, status in responses.items() if status >= 500]
