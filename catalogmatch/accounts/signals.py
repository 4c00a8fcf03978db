"""End sessions and tokens when a password changes or a user is deactivated, whichever code does that."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import post_save, pre_save

from catalogmatch.accounts.models import ScopedUser
from catalogmatch.accounts.passwords import forget_requirement, note_at_sign_in
from catalogmatch.accounts.sessions import sign_out_everywhere
from catalogmatch.accounts.tokens import revoke_all


def connect() -> None:
    """Listen for saved users."""
    user_logged_in.connect(note_at_sign_in, dispatch_uid="accounts.first_password")
    for model in (User, ScopedUser):
        pre_save.connect(_compare, sender=model, dispatch_uid="accounts.compare")
        post_save.connect(_end_access, sender=model, dispatch_uid="accounts.end_access")


def _compare(instance: User, raw: bool = False, update_fields: Any = None, **_: Any) -> None:
    """Note what this save changes, before the old values are gone."""
    instance._ends_access = ""  # type: ignore[attr-defined]
    if raw or instance.pk is None or (update_fields is not None and not {"password", "is_active"} & set(update_fields)):
        return
    before = User.objects.filter(pk=instance.pk).values("password", "is_active").first()
    if before is None:
        return
    saved = update_fields if update_fields is not None else {"password", "is_active"}
    if "is_active" in saved and before["is_active"] and not instance.is_active:
        instance._ends_access = "deactivated"  # type: ignore[attr-defined]
    elif "password" in saved and before["password"] != instance.password and not _is_rehash(instance, update_fields):
        instance._ends_access = "password"  # type: ignore[attr-defined]


def _is_rehash(user: User, update_fields: Any) -> bool:
    """Return whether Django only stores the same password with a newer hasher, as it does at a sign-in."""
    is_new = getattr(user, "_password", None) is not None
    return (
        not is_new
        and update_fields is not None
        and set(update_fields) == {"password"}
        and (is_password_usable(user.password))
    )


def _end_access(instance: User, **_: Any) -> None:
    reason = getattr(instance, "_ends_access", "")
    if reason == "deactivated":
        sign_out_everywhere(instance)
    elif reason == "password":
        # Django ends the sessions itself, as each holds a hash of the password. It keeps the one that changed it.
        revoke_all(instance)
        forget_requirement(instance)
