"""Limits on sign-in attempts and API calls, by address and by user. Clients cannot forge their address."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from catalogmatch.api.throttling import AccountThrottle, ApiThrottle, LoginThrottle
from tests.helpers.accounts import client_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Settings) -> None:
    """Make password checks fast, because these tests try hundreds."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


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
    assert sign_in(behind_them.format("203.0.113.8"), "ada") == 200


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


@pytest.mark.parametrize(
    "names",
    [
        ["ada", "\uff41\uff44\uff41", "\u1d43da", "\u24d0\u24d3\u24d0"],  # full width, superscript, circled
        [" ada", "ada\u3000", "\u00a0ada", "ADA"],
        ["\ufb01na", "fina", "FINA", "\uff26\uff29NA"],  # a ligature
        ["jos\u00e9", "jose\u0301", "JOS\u00c9", "\uff4aos\u00e9"],
    ],
)
def test_spellings_of_one_user_name_count_as_one(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccountThrottle, "THROTTLE_RATES", {"account": "3/min"})
    statuses = [sign_in(name=name, REMOTE_ADDR=f"10.0.0.{number}") for number, name in enumerate(names)]
    assert statuses == [200, 200, 200, 429]


def test_very_long_name_is_rejected_quickly() -> None:
    assert sign_in(name="\ufdfa" * 500_000) in (200, 400, 413)


@pytest.mark.parametrize(
    "addresses",
    [
        [f"2001:db8:1:2:{number:x}::{number:x}" for number in range(6)],
        ["2001:db8:1:2::1", "2001:DB8:1:2::2", "2001:0db8:0001:0002:0000:0000:0000:0003", "2001:db8:1:2::4%eth0",
         "2001:db8:1:2:0:0:1.2.3.4", "2001:db8:1:2:ffff:ffff:ffff:ffff"],
        ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201", "0:0:0:0:0:ffff:192.0.2.1", "64:ff9b::192.0.2.1",
         "::FFFF:192.0.2.1"],
    ],
    ids=["one /64", "notations", "mapped"],
)  # fmt: skip
def test_addresses_of_one_client_count_as_one(addresses: list[str]) -> None:
    statuses = [sign_in(name=f"name{number}", REMOTE_ADDR=address) for number, address in enumerate(addresses)]
    assert statuses == [200] * 5 + [429]


def test_networks_of_one_site_get_ten_times_the_attempts() -> None:
    statuses = [sign_in(name=f"name{n}", REMOTE_ADDR=f"2001:db8:1:{n:x}::1") for n in range(51)]
    assert statuses == [200] * 50 + [429]
    assert sign_in(name="other", REMOTE_ADDR="2001:db8:2::1") == 200


def test_blocked_network_does_not_use_up_the_attempts_of_its_site() -> None:
    for number in range(60):
        sign_in(name=f"name{number}", REMOTE_ADDR="2001:db8:1:1::1")
    assert sign_in(name="other", REMOTE_ADDR="2001:db8:1:2::1") == 200


@pytest.mark.parametrize("mapped", ["::ffff:192.0.2.{}", "64:ff9b::192.0.2.{}", "192.0.2.{}"])
def test_ipv4_clients_do_not_share_a_network(mapped: str) -> None:
    assert {sign_in(name=f"name{n}", REMOTE_ADDR=mapped.format(n)) for n in range(1, 61)} == {200}


@pytest.mark.parametrize("address", ["", "unknown", "_hidden", "unix:", "1.2.3", "2001:db8::/64", "\xff", "[::1", "%"])
def test_invalid_address_is_counted_as_text(behind: Any, address: str) -> None:
    behind(1)
    statuses = [sign_in(address or " ", f"name{number}") for number in range(6)]
    assert statuses == [200] * 5 + [429]


@pytest.mark.parametrize(
    "seen", ["192.0.2.1:{}", "[2001:db8::1]:{}", "[2001:db8::{:x}]", "2001:db8::{:x}", "::ffff:192.0.2.1"]
)
def test_ports_and_networks_behind_a_proxy_do_not_change_the_address(behind: Any, seen: str) -> None:
    behind(1)
    statuses = [sign_in(f"198.51.100.7, {seen.format(number)}", f"name{number}") for number in range(1, 7)]
    assert statuses == [200] * 5 + [429]


def test_anonymous_requests_are_counted_by_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiThrottle, "THROTTLE_RATES", {"user": "3/min"})
    anonymous = APIClient()
    statuses = [anonymous.get("/api/nothing", REMOTE_ADDR=f"2001:db8:1:1::{number}").status_code for number in range(4)]
    assert statuses == [404, 404, 404, 429]
    sites = [anonymous.get("/api/nothing", REMOTE_ADDR=f"2001:db8:2:{n:x}::1").status_code for n in range(31)]
    assert sites == [404] * 30 + [429]
