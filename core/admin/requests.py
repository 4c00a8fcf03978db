"""What the admin's own pages ask of a request: who sends it, what they may do, and whether htmx wants a part alone."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest


def user_of(request: HttpRequest) -> User:
    """Who is signed in; the admin's views are for nobody else."""
    return cast(User, request.user)


def require_permissions(request: HttpRequest, *permissions: str) -> None:
    """Raises PermissionDenied unless the person has all of these permissions."""
    if not request.user.has_perms(permissions):
        raise PermissionDenied


def is_htmx(request: HttpRequest) -> bool:
    """Whether a script of the page asks, which takes a part of a page for an answer."""
    return "HX-Request" in request.headers
