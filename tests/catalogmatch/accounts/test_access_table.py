"""Check the status of every route for each method and role against ``access_table.txt``.

A route without a line fails, and so does another status. To change access on purpose, change the line in the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pytest_django import Settings

from catalogmatch.accounts.models import Token
from catalogmatch.accounts.roles import ROLES
from matching.models import Match
from products.models import Deletion, Import, Product, ProductImage
from tests.helpers.accounts import user_in
from tests.helpers.sample_images import jpeg

TABLE = Path(__file__).with_name("access_table.txt")
IDENTITIES = ("anonymous", *ROLES, "superuser")
API_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PAGE_METHODS = ("GET", "POST")
PICTURE = "pictures/00/" + 32 * "0" + ".jpg"


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        else:
            yield route


def calls() -> list[tuple[str, str]]:
    """Return (method, route) of every possible call, in the order of the routes."""
    return [
        (method, route)
        for route in routes(get_resolver().url_patterns)
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
def ids(db: None) -> dict[str, object]:
    """Create one object of each type. Return their ids by the prefix of the routes that need them."""
    product, candidate = Product.objects.create(sku="N-1"), Product.objects.create(sku="H-1", is_historical=True)
    ProductImage.objects.create(product=product, file=PICTURE, sha256=64 * "0", width=96, height=96)
    default_storage.save(PICTURE, ContentFile(jpeg(1)))
    match = Match.objects.create(product=product, candidate=candidate, similarity_score=90, rank=1)
    other = User.objects.create_user("colleague")
    token = Token.objects.create(user=other, digest="0")
    return {
        "api/matches": match.pk,
        "admin/matching/match/case": product.pk,
        "admin/matching": match.pk,
        "admin/products/product/import": Import.objects.create(user=user_in("uploader"), state="done").pk,
        "admin/products/product/deletion": Deletion.objects.create(
            user=user_in("uploader"), label="products.Product", total=1
        ).pk,
        "admin/auth/user": other.pk,
        "admin/tokens/of": other.pk,
        "admin/sign-out": other.pk,
        "admin/tokens": token.pk,
        "admin/auth/group": Group.objects.get(name="viewer").pk,
        "admin/r": 1,
        "api/<path:rest>": "nothing",
        "": product.pk,
    }


def address(route: str, ids: dict[str, object]) -> str:
    """Fill the placeholders of a route."""
    if route.startswith("^media"):
        return f"/media/{PICTURE}"
    value = next(value for prefix, value in ids.items() if route.startswith(prefix))
    route = route.replace("^(?P<app_label>auth|products|matching)/$", "products/").replace("(?P<url>.*)$", "nothing")
    return "/" + re.sub(r"<[^>]+>", str(value), route)


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
def test_every_route_returns_the_status_of_the_table(identity: str, ids: dict[str, object], settings: Settings) -> None:
    settings.METRICS_TOKEN = "the scraper's"
    responses = {}
    for method, route in calls():
        # Roll back the changes of each call before the next one, including the session.
        with transaction.atomic():
            responses[method, route] = client_as(identity).generic(method, address(route, ids)).status_code
            transaction.set_rollback(True)
    assert responses == {call: statuses[identity] for call, statuses in table().items()}
    assert not [call for call, status in responses.items() if status >= 500]
