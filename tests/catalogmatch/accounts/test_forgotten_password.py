"""A forgotten password is replaced through a mail, and a manager's first password by its user."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.test import Client
from pytest_django import Settings

from catalogmatch.accounts.tokens import create_token, issue_token
from catalogmatch.api.throttling import LoginThrottle
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of

pytestmark = pytest.mark.django_db

FORGOTTEN, SIGN_IN = "/admin/password_reset/", "/admin/login/"
OLD, NEW = "long-and-odd-1", "quite-other-2"


@pytest.fixture(autouse=True)
def user(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    monkeypatch.setattr(LoginThrottle, "THROTTLE_RATES", {"login": "1000/min"})
    user = user_in("reviewer")
    user.email = "reviewer@shop.example"
    user.set_password(OLD)
    user.save()
    return user


def mails(count: int) -> list[Any]:
    """Return the mails, after waiting for so many: they are sent in the background."""
    until = time.monotonic() + 5
    while len(mail.outbox) < count and time.monotonic() < until:
        time.sleep(0.01)
    assert len(mail.outbox) == count
    return mail.outbox


def signs_in(name: str, password: str) -> bool:
    return Client().post(SIGN_IN, {"username": name, "password": password}).status_code == 302


def test_the_link_of_the_mail_sets_a_new_password_once(user: User) -> None:
    token = issue_token(user)
    assert FORGOTTEN in Client().get(SIGN_IN).content.decode()
    assert "on its way" in Client().post(FORGOTTEN, {"email": "Reviewer@shop.example"}, follow=True).content.decode()
    [sent] = mails(1)
    assert sent.to == ["reviewer@shop.example"]
    link = re.search(r"http://testserver(/\S+)", sent.body)
    assert link is not None

    browser = Client()
    page = browser.get(link[1], follow=True)
    response = browser.post(page.request["PATH_INFO"], {"new_password1": NEW, "new_password2": NEW}, follow=True)
    assert "Your new password is saved." in response.content.decode()
    assert (signs_in("reviewer", NEW), signs_in("reviewer", OLD)) == (True, False)
    assert Client().get("/api/queue", headers={"Authorization": f"Token {token}"}).status_code == 401
    assert "used before or is too old" in Client().get(link[1], follow=True).content.decode()


def test_unknown_and_passwordless_accounts_get_the_same_answer_and_no_mail() -> None:
    create_token("program")
    User.objects.filter(username="program").update(email="program@shop.example")
    known = Client().post(FORGOTTEN, {"email": "reviewer@shop.example"}, follow=True)
    mails(1)
    for address in ("nobody@shop.example", "program@shop.example"):
        other = Client().post(FORGOTTEN, {"email": address}, follow=True)
        assert re.sub(r"[\w-]{40,}", "", other.content.decode()) == re.sub(r"[\w-]{40,}", "", known.content.decode())
    time.sleep(0.2)
    mails(1)


def test_mails_to_one_address_are_limited_known_or_not() -> None:
    for address in ("reviewer@shop.example", "nobody@shop.example"):
        answers = [
            Client().post(FORGOTTEN, {"email": address}, REMOTE_ADDR=f"10.0.0.{number}").status_code
            for number in range(6)
        ]
        assert answers == [302] * 5 + [429]
    mails(5)


def test_first_password_of_a_manager_is_changed_at_the_first_sign_in() -> None:
    role = Group.objects.get(name="viewer")
    form = {"username": "newcomer", "usable_password": "true", "password1": OLD, "password2": OLD, "groups": [role.pk]}
    browser_of("manager").post("/admin/auth/user/add/", form)

    browser = Client()
    assert browser.login(username="newcomer", password=OLD)
    page = browser.get("/admin/products/product/", follow=True)
    assert page.redirect_chain == [("/admin/password_change/", 302)]
    assert "A manager knows your password." in page.content.decode()
    assert browser.get("/api/queue").status_code == 401
    passwords = {"old_password": OLD, "new_password1": NEW, "new_password2": NEW}
    assert browser.post("/admin/password_change/", passwords).status_code == 302
    assert browser.get("/admin/products/product/").status_code == 200
    assert browser.get("/api/queue").status_code == 200
    again = Client()
    assert again.login(username="newcomer", password=NEW)
    assert again.get("/admin/products/product/").status_code == 200


def test_password_that_a_manager_resets_must_be_changed_too(user: User) -> None:
    form = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    assert browser_of("manager").post(f"/admin/auth/user/{user.pk}/password/", form).status_code == 302
    browser = Client()
    assert browser.login(username="reviewer", password=NEW)
    assert browser.get("/admin/").status_code == 302


def test_accounts_made_by_create_token_need_no_change() -> None:
    create_token("program", "uploader")
    program = User.objects.get(username="program")
    assert browser_of(program).get("/admin/").status_code == 200


def test_user_page_offers_the_roles_as_one_choice_in_words(user: User) -> None:
    address = f"/admin/auth/user/{user.pk}/change/"
    page = browser_of("manager").get(address).content.decode()
    assert re.findall(r'type="radio" name="groups" value="\d+"', page.replace("\n", " "))
    assert "reviewer: sees everything that a viewer sees, and decides cases." in page
    assert "Can add" not in page
    roles = {group.name: group.pk for group in Group.objects.all()}
    form = {"username": "reviewer", "is_active": "on", "is_staff": "on"}
    both = browser_of("manager").post(address, form | {"groups": [roles["viewer"], roles["reviewer"]]})
    assert "Choose one role." in both.content.decode()
    assert browser_of("manager").post(address, form | {"groups": [roles["uploader"]]}).status_code == 302
    assert [group.name for group in user.groups.all()] == ["uploader"]
