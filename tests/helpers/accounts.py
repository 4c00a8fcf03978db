"""People and programs that call: users in a role, and API clients with a token of theirs."""

from __future__ import annotations

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from catalogmatch.accounts.roles import give_role
from catalogmatch.accounts.tokens import issue_token


def user_in(role: str) -> User:
    """A user of the name of the role, who has that role and no other."""
    user, created = User.objects.get_or_create(username=role)
    if created:
        give_role(user, role)
    return user


def client_of(role: str | None) -> APIClient:
    """A client that signs its requests with a token of a user in ``role``; None is somebody unknown."""
    client = APIClient()
    if role is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Token {issue_token(user_in(role))}")
    return client
