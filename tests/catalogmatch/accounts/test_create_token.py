"""The command create_token: a working token for a user with a role."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from catalogmatch.accounts.models import Token
from catalogmatch.accounts.roles import give_role
from tests.helpers.commands import run

pytestmark = pytest.mark.django_db


def status(token: str, method: str = "get", path: str = "/api/products") -> int:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token.strip()}")
    return int(getattr(client, method)(path).status_code)


def roles(username: str) -> list[str]:
    return [group.name for group in User.objects.get(username=username).groups.all()]


def test_new_user_gets_a_token_as_a_viewer_and_no_password():
    ran = run("create_token", "ada")
    assert ran.code == 0
    assert ran.out.count("\n") == 1
    assert status(ran.out) == 200
    assert status(ran.out, "post", "/api/products/upload") == 403
    assert roles("ada") == ["viewer"]
    assert not User.objects.get(username="ada").has_usable_password()


@pytest.mark.parametrize("role", ["viewer", "uploader", "reviewer", "manager"])
def test_new_user_gets_the_given_role(role):
    ran = run("create_token", "ada", "--role", role)
    assert roles("ada") == [role]
    assert status(ran.out, "post", "/api/products/upload") == (400 if role in ("uploader", "manager") else 403)


def test_existing_user_keeps_password_and_role_unless_a_role_is_given():
    user = User.objects.create_user("ada", password="secret enough")
    give_role(user, "reviewer")
    assert run("create_token", "ada").code == 0
    user.refresh_from_db()
    assert user.check_password("secret enough")
    assert roles("ada") == ["reviewer"]
    assert run("create_token", "ada", "--role", "manager").code == 0
    assert roles("ada") == ["manager"]


def test_token_is_unique_and_stored_only_as_a_hash():
    first, second = run("create_token", "ada").out.strip(), run("create_token", "ada").out.strip()
    assert first != second
    assert status(first) == status(second) == 200
    assert first not in {str(value) for token in Token.objects.values_list() for value in token}


def test_token_expires_after_the_given_days():
    token = run("create_token", "ada", "--days", 7).out
    stored = Token.objects.get()
    assert stored.expires_at is not None
    assert timedelta(days=6.9) < stored.expires_at - timezone.now() <= timedelta(days=7)
    Token.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert status(token) == 401


@pytest.mark.parametrize(
    "wrong", [["ada", "--role", "king"], ["ada", "--days", "0"], ["no such name!"], [""], ["x" * 151]]
)
def test_invalid_arguments_are_rejected_and_leave_no_user(wrong):
    ran = run("create_token", *wrong)
    assert ran.code == 1
    assert ran.out == ""
    assert not User.objects.exists()


def test_deactivated_user_gets_no_token():
    User.objects.create_user("ada", is_active=False)
    ran = run("create_token", "ada")
    assert ran.code == 1
    assert "deactivated" in ran.err
    assert not Token.objects.exists()


def test_request_needs_the_same_number_of_queries_for_any_number_of_tokens(django_assert_num_queries):
    token = run("create_token", "ada").out.strip()
    assert status(token) == 200  # records that the token was used
    with CaptureQueriesContext(connection) as alone:
        assert status(token) == 200
    for _ in range(5):
        run("create_token", "ada", "--days", 7)
    Token.objects.filter(expires_at__isnull=False).update(expires_at=timezone.now() - timedelta(seconds=1))
    with django_assert_num_queries(len(alone)):
        assert status(token) == 200
