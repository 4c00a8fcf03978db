"""No request is answered with 500: nonsense in every part of a request, to every route, form and admin action.

An ordinary run sends a sample. FUZZ_EXAMPLES=300000 sends every value to every place, and as many mixed calls.
FUZZ_SEED=12 chooses other ones.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from pytest_django import Settings

from catalogmatch.accounts.roles import ROLES
from catalogmatch.web.requests import UnicodeRequest
from core.jobs import BackgroundJob
from tests.helpers.accounts import user_in
from tests.helpers.rows import make_case, make_product
from tests.helpers.web.nonsense import Generator, Target
from tests.helpers.web.routes import address, all_routes, make_rows

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "11"))
SINGLE_FAULTS = 270_000  # about as many as there are
SAMPLE, MIXED = 500, 500  # calls in an ordinary run

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(0 if EXAMPLES else 180)]


def session_key(user: User) -> str:
    browser = Client()
    browser.force_login(user)
    return browser.cookies["sessionid"].value


@pytest.fixture
def fuzz(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[Generator, Target]:
    """Fill the catalogue, sign every role in, and learn what each route reads."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.METRICS_TOKEN = "the scraper's"
    monkeypatch.setattr("django.test.client.WSGIRequest", UnicodeRequest)  # as catalogmatch/wsgi.py has it
    # A job's thread would wait for the transaction that undoes the call.
    monkeypatch.setattr(BackgroundJob, "start", lambda *_args: None)
    boss = User.objects.create_superuser("boss")
    ids = make_rows(boss)
    make_case(91, 72, sku="NEW-1", category="mugs", attributes={"colour": "blue"})
    make_product("failed", "pending", name="broken")
    users = {"anonymous": None, "superuser": boss} | {role: user_in(role) for role in ROLES}
    target = Target({role: session_key(user) if user else None for role, user in users.items()})
    paths = {route: address(route, ids).encode() for route in all_routes()}
    generator = Generator(SEED, paths, list(users))
    request: Any = RequestFactory().get("/")
    request.user = boss
    generator.learn(target, request)
    return generator, target


def test_no_nonsense_is_answered_with_500(fuzz: tuple[Generator, Target], record_property: Any) -> None:
    generator, target = fuzz
    chosen = random.Random(SEED)
    for call in generator.single_faults():
        if chosen.random() < (EXAMPLES or SAMPLE) / SINGLE_FAULTS:
            target.send(call)
    for _ in range(EXAMPLES or MIXED):
        target.send(generator.mixed())
    record_property("calls", target.count)
    record_property("statuses", dict(sorted(target.statuses.items())))
    assert not target.problems, target.report()
