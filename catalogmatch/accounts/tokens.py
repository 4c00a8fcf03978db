"""Create and revoke API tokens."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from knox.models import AuthToken

from catalogmatch.accounts.roles import give_role

DEFAULT_ROLE = "viewer"


class InactiveUserError(Exception):
    """The user is deactivated, so a token would be useless."""

    code = "user_inactive"


def create_token(username: str, role: str | None = None, days: int | None = None) -> str:
    """Return a new API token. The database stores only its hash.

    A missing user is created without a password, as a viewer unless ``role`` is given. An existing user keeps the
    role unless ``role`` is given. Without ``days`` the token does not expire. Raises InactiveUserError, KeyError for
    an unknown role, and ValidationError for an invalid user name.
    """
    with transaction.atomic():
        user = User.objects.filter(username=username).first()
        if user is None:
            user = User(username=username)
            user.set_unusable_password()
            user.full_clean()
            user.save()
            role = role or DEFAULT_ROLE
        if not user.is_active:
            raise InactiveUserError(f"The user {username} is deactivated. Activate it in the admin first.")
        if role is not None:
            give_role(user, role)
        _, token = AuthToken.objects.create(user, expiry=timedelta(days=days) if days is not None else None)
    return str(token)


def revoke_tokens(username: str) -> int:
    """Delete all API tokens of a user and return their number. Raises User.DoesNotExist."""
    user = User.objects.get(username=username)
    count, _ = AuthToken.objects.filter(user=user).delete()
    return int(count)
