"""Who may call what: each API view names the Django permission that a method needs."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class RolePermission(BasePermission):
    """Allow a method when the user has the permission that the view's ``permission_map`` names for it.

    A view without a map, or a method without an entry, is refused: forgetting the map closes a door
    instead of opening it. The roles are groups of these permissions (see ``catalogmatch.roles``).
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not (request.user and request.user.is_authenticated):
            return False
        method = "GET" if request.method == "HEAD" else request.method
        if method == "OPTIONS" or request.method not in view.allowed_methods:
            return True  # answered with the methods that there are
        permission = getattr(view, "permission_map", {}).get(method)
        return permission is not None and request.user.has_perm(permission)
