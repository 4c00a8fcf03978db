"""Users with a role, and API clients with a token."""

from __future__ import annotations

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from catalogmatch.accounts.roles import give_role
from catalogmatch.accounts.tokens import issue_token


def user_in(role: str) -> User:
    """Return the user named like the role, with this role only."""
    user, created = User.objects.get_or_create(username=role)
    if created:
        give_role(user, role)
    return user


def client_of(role: str | None) -> APIClient:
    """Return an API client with a token of a user in ``role``, or without a token for None."""
    client = APIClient()
    if role is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Token {issue_token(user_in(role))}")
    return client
