"""Preferences: what managers set on the page Settings, kept in the database with who changed what.

A room declares its preferences as constants with ``declare`` and reads them with ``value``. Every process sees a
change at its next read. Settings that only an operator may change stay in the environment (catalogmatch/settings.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from core.database.locks import lock_names
from products.models import PreferenceChange

Text = str | Promise
Value = TypeVar("Value", bool, int, float, str)

LOCK = "preferences"


class StalePreferenceError(Exception):
    """Another change came in between. The text says by whom."""


@dataclass(frozen=True, slots=True)
class Preference(Generic[Value]):
    """One preference.

    ``name`` is stable, such as ``matching.threshold``. ``field`` makes the form field that checks and shows a value:
    its cleaned value must be a bool, int, float or str. Preferences of one ``group`` stand together on the page.
    """

    name: str
    group: Text
    default: Value
    field: Callable[[], forms.Field]


_declared: dict[str, Preference[Any]] = {}


def declare(name: str, group: Text, default: Value, field: Callable[[], forms.Field]) -> Preference[Value]:
    """Return a new preference that the page Settings shows. Raises ValueError if the name is taken."""
    if name in _declared:
        raise ValueError(f"There is a preference {name} already.")
    preference = Preference(name, group, default, field)
    _declared[name] = preference
    return preference


def declared() -> list[Preference[Any]]:
    """Return all preferences, group by group in the order of their declaration."""
    groups = list(dict.fromkeys(str(one.group) for one in _declared.values()))
    return sorted(_declared.values(), key=lambda one: groups.index(str(one.group)))


def value(preference: Preference[Value]) -> Value:
    """Return the value set last, or the default. A stored value that is no longer allowed counts as not set."""
    newest = PreferenceChange.objects.filter(name=preference.name).order_by("-id").values_list("value", flat=True)
    stored = list(newest[:1])
    if not stored:
        return preference.default
    try:
        cleaned: Value = preference.field().clean(stored[0])
    except ValidationError:  # an older version of the program allowed it
        return preference.default
    return cleaned


def last_change() -> PreferenceChange | None:
    """Return the newest change of any preference."""
    return PreferenceChange.objects.select_related("changed_by").order_by("-id").first()


def change(values: Mapping[str, Any], user: AbstractBaseUser | None, seen: int | None = None) -> list[str]:
    """Store the values that differ from the present ones, all or none, and return their names.

    ``seen`` is the id of the newest change that the user saw, 0 for none. Raises StalePreferenceError if there is a
    newer one, ValidationError (by name) for values that are not allowed, and KeyError for an unknown name.
    """
    errors: dict[str, Any] = {}
    cleaned: dict[str, Any] = {}
    for name, raw in values.items():
        try:
            cleaned[name] = _declared[name].field().clean(raw)
        except ValidationError as error:
            errors[name] = error
    if errors:
        raise ValidationError(errors)
    with transaction.atomic():
        lock_names([LOCK])
        newest = last_change()
        if seen is not None and newest is not None and newest.pk != seen:
            raise StalePreferenceError(
                _("%(user)s has changed the settings meanwhile. Nothing of yours was saved. Look again.")
                % {"user": newest.changed_by or _("A command")}
            )
        changed = [name for name, new in cleaned.items() if new != value(_declared[name])]
        now = timezone.now()
        PreferenceChange.objects.bulk_create(
            [
                PreferenceChange(
                    name=name, value=cleaned[name], changed_at=now, changed_by_id=user.pk if user else None
                )
                for name in changed
            ]
        )
    return changed
