"""Limits on sign-in attempts and API calls, by address and by user. Clients cannot forge their address."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from catalogmatch.api.throttling import AccountThrottle, ApiThrottle, LoginThrottle
from tests.helpers.accounts import client_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def behind(settings: Settings) -> Any:
    """Return a function that sets the number of proxies in front of the program."""

    def these(proxies: int) -> None:
        settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": proxies}

    return these


def sign_in(forwarded: str = "", name: str = "nobody", **environ: str) -> int:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    form = {"username": name, "password": "wrong"}
    return Client().post("/admin/login/", form, headers=headers, **environ).status_code  # type: ignore[arg-type]


def test_forwarded_header_is_ignored_without_a_proxy(behind: Any) -> None:
    behind(0)
    responses = [sign_in(f"198.51.100.{number}", f"name{number}") for number in range(6)]
    assert responses == [200] * 5 + [429]


@pytest.mark.parametrize(("proxies", "behind_them"), [(1, "{}"), (2, "{}, 10.0.0.9")])
def test_behind_proxies_the_address_is_the_one_seen_by_the_first_proxy(
    behind: Any, proxies: int, behind_them: str
) -> None:
    behind(proxies)
    seen = behind_them.format("203.0.113.7")
    # The client's own header value stands before the values that the proxies add.
    responses = [sign_in(f"198.51.100.{number}, {seen}", f"name{number}") for number in range(6)]
    assert responses == [200] * 5 + [429]
    assert sign_in(behind_them.format("203.0.113.8"), "somebody") == 200


def test_attempts_for_one_user_are_counted_over_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccountThrottle, "THROTTLE_RATES", {"account": "3/min"})
    responses = [
        sign_in(name=name, REMOTE_ADDR=f"10.0.0.{n}") for n, name in enumerate(["anna", "Anna ", "ANNA", "anna"])
    ]
    assert responses == [200, 200, 200, 429]
    assert sign_in(name="berta", REMOTE_ADDR="10.0.0.9") == 200


def test_blocked_address_does_not_block_the_user_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccountThrottle, "THROTTLE_RATES", {"account": "3/min"})
    monkeypatch.setattr(LoginThrottle, "THROTTLE_RATES", {"login": "1/min"})
    assert [sign_in(name="anna", REMOTE_ADDR="10.0.0.1") for _ in range(6)] == [200] + [429] * 5
    assert sign_in(name="anna", REMOTE_ADDR="10.0.0.2") == 200


def test_api_throttle_counts_each_user_over_all_tokens_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiThrottle, "THROTTLE_RATES", {"user": "3/min"})
    clients = [client_of("viewer"), client_of("viewer")]
    responses = [
        clients[number % 2].get("/api/queue", REMOTE_ADDR=f"10.0.0.{number}", HTTP_X_FORWARDED_FOR=f"10.1.1.{number}")
        for number in range(4)
    ]
    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    assert responses[-1].json()["code"] == "throttled"
    assert int(responses[-1]["Retry-After"]) > 0
    assert client_of("uploader").get("/api/queue").status_code == 200
