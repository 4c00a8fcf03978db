"""The four roles, as groups of Django permissions."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.utils.translation import gettext_lazy as _

_VIEW = frozenset({
    "gpu.view_embeddingworker",
    "products.view_product", "products.view_productimage", "products.view_feature",
    "matching.view_match",
})  # fmt: skip
_UPLOAD = frozenset({
    "products.add_product", "products.change_product", "products.delete_product",
    "products.add_productimage", "products.change_productimage", "products.delete_productimage",
    "matching.add_match",
})  # fmt: skip
_REVIEW = frozenset({"matching.change_match"})
_MANAGE = frozenset({
    "matching.delete_match", "matching.view_policy", "matching.change_policy", "matching.change_secondopinion",
    "gpu.view_modelversion", "gpu.add_modelversion", "gpu.add_modelswitch",
    "products.view_preferencechange", "products.add_preferencechange",
    "auth.view_user", "auth.add_user", "auth.change_user", "auth.view_group",
})  # fmt: skip

# Uploaders load the catalogue. Reviewers decide on matches. Managers do both, choose the model that answers and
# manage the users.
ROLES: dict[str, frozenset[str]] = {
    "viewer": _VIEW,
    "uploader": _VIEW | _UPLOAD,
    "reviewer": _VIEW | _REVIEW,
    "manager": _VIEW | _UPLOAD | _REVIEW | _MANAGE,
}


# What each role may do, for the pages that give one.
WORDS = {
    "viewer": _("sees products, matches, decisions and the history, and searches. Changes nothing."),
    "uploader": _("also adds, imports, changes and deletes products and their images."),
    "reviewer": _("sees everything that a viewer sees, and decides cases."),
    "manager": _("does all of this, and looks after users, models and settings."),
}


def create_roles(**_options: Any) -> None:
    """Create the groups and give each exactly its role's permissions. Runs after every ``migrate``."""
    for app in apps.get_app_configs():
        create_permissions(app, verbosity=0)
    permissions = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.select_related("content_type")
    }
    for role, names in ROLES.items():
        group, _created = Group.objects.get_or_create(name=role)
        group.permissions.set([permissions[name] for name in names])


def give_role(user: User, role: str) -> None:
    """Give the user this role only, and access to the admin. Raises KeyError for an unknown role."""
    ROLES[role]  # raises before anything changes
    with transaction.atomic():
        # Locked, so that two changes at once do not leave two roles.
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        user.groups.remove(*Group.objects.filter(name__in=ROLES))
        user.groups.add(Group.objects.get(name=role))
        user.is_staff = True
        user.save(update_fields=["is_staff"])
