"""What admin pages need to know of a request: its user, their permissions, and whether htmx sent it."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest


def user_of(request: HttpRequest) -> User:
    """Return the signed-in user. The admin has no views for anonymous users."""
    return cast(User, request.user)


def require_permissions(request: HttpRequest, *permissions: str) -> None:
    """Raise PermissionDenied unless the user has all of these permissions."""
    if not request.user.has_perms(permissions):
        raise PermissionDenied


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx sent the request and expects a part of a page."""
    return "HX-Request" in request.headers
