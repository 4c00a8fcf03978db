"""The page for one's own password: a stolen session cannot guess the old one, nor replace it without."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from catalogmatch.api.throttling import AccountThrottle, LoginThrottle
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of

pytestmark = pytest.mark.django_db

PAGE, SIGN_IN = "/admin/password_change/", "/admin/login/"
PASSWORD, NEW = "long-and-odd-1", "quite-other-2"


@pytest.fixture(autouse=True)
def user(settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = user_in("manager")
    user.set_password(PASSWORD)
    user.save()
    return user


def guess(browser: Client, old: str = "wrong", address: str = "10.0.0.1", **more: str) -> int:
    form = {"old_password": old, "new_password1": NEW, "new_password2": NEW, **more}
    return int(browser.post(PAGE, form, REMOTE_ADDR=address).status_code)


def test_guesses_are_limited_by_address_even_with_the_right_password(user: User) -> None:
    browser = browser_of(user)
    assert [guess(browser) for _ in range(5)] == [200] * 5
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    response = browser.post(PAGE, form, REMOTE_ADDR="10.0.0.1")
    assert response.status_code == 429
    assert "Too many attempts. Try again in" in response.content.decode()
    assert 1 <= int(response["Retry-After"]) <= 60
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert browser.get(PAGE, REMOTE_ADDR="10.0.0.1").status_code == 200
    assert guess(browser, PASSWORD, "10.0.0.2") == 302


def test_guesses_are_limited_by_account_and_count_with_the_sign_in(monkeypatch: pytest.MonkeyPatch, user: User) -> None:
    monkeypatch.setattr(AccountThrottle, "THROTTLE_RATES", {"account": "4/min"})
    sessions = [browser_of(user), browser_of(user)]
    statuses = [guess(sessions[number % 2], address=f"10.0.0.{number}") for number in range(3)]
    signed_in = [
        Client().post(SIGN_IN, {"username": "MANAGER", "password": "wrong"}, REMOTE_ADDR=f"10.0.1.{n}")
        for n in range(2)
    ]
    assert (statuses, [response.status_code for response in signed_in]) == ([200] * 3, [200, 429])
    assert guess(sessions[0], address="10.0.0.9") == 429
    assert guess(browser_of("viewer"), address="10.0.0.9") == 200


def test_name_in_the_form_does_not_change_whose_attempts_are_counted(
    monkeypatch: pytest.MonkeyPatch, user: User
) -> None:
    monkeypatch.setattr(AccountThrottle, "THROTTLE_RATES", {"account": "2/min"})
    browser = browser_of(user)
    assert [guess(browser, address=f"10.0.0.{n}", username=f"name{n}") for n in range(3)] == [200, 200, 429]
    # A session does not hide attempts to sign in as another user either.
    statuses = [
        browser.post(SIGN_IN, {"username": "viewer", "password": "wrong"}, REMOTE_ADDR=f"10.0.1.{n}").status_code
        for n in range(3)
    ]
    assert statuses == [200, 200, 429]


def test_sign_in_attempts_of_an_address_count_for_its_password_changes(
    monkeypatch: pytest.MonkeyPatch, user: User
) -> None:
    monkeypatch.setattr(LoginThrottle, "THROTTLE_RATES", {"login": "2/min"})
    for name in ("viewer", "uploader"):
        Client().post(SIGN_IN, {"username": name, "password": "wrong"}, REMOTE_ADDR="10.0.0.1")
    assert guess(browser_of(user), address="10.0.0.1") == 429


@pytest.mark.parametrize("is_superuser", [False, True])
def test_own_password_is_never_set_without_the_old_one(user: User, is_superuser: bool) -> None:
    user.is_superuser = is_superuser
    user.save()
    form = {"usable_password": "true", "password1": NEW, "password2": NEW}
    address = f"/admin/auth/user/{user.pk}/password/"
    for spelling in ("{}", "0{}", "+{}", "%20{}", "{}%20", "_2B{}"):  # the admin quotes a plus as _2B
        path = address.replace(f"{user.pk}/", spelling.format(user.pk) + "/")
        response = browser_of(user).post(path, form)
        assert (response.status_code, response["Location"]) == (302, PAGE), path
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
