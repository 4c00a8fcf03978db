"""Permissions of the API. Each view names the Django permission that a method needs."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class RolePermission(BasePermission):
    """Allow a method if the user has the permission in the view's ``permission_map``.

    A view without a map and a method without an entry are denied. The roles in ``catalogmatch.accounts.roles`` are
    groups of these permissions.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not (request.user and request.user.is_authenticated):
            return False
        method = "GET" if request.method == "HEAD" else request.method
        if method == "OPTIONS" or request.method not in view.allowed_methods:
            return True  # the response only lists the allowed methods
        permission = getattr(view, "permission_map", {}).get(method)
        return permission is not None and request.user.has_perm(permission)
