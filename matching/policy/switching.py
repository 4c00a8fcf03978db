"""Change what a policy may decide, and let it go on after a pause."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from core.history.recording import acting_as, current_source
from matching.policy.evaluation import preview
from matching.policy.models import AUDIT_SHARE, CONFIDENCE, PROMISE, Policy, PolicyCase
from matching.service import version_in_use
from products.models import Product

PROMISES, AUDIT_SHARES = (0.8, 0.999), (0.005, 0.5)
CONFIDENCES = (0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a manager can set."""

    confirms: bool = False
    calls_new: bool = False
    promise: float = PROMISE
    confidence: float = CONFIDENCE
    audit_share: float = AUDIT_SHARE

    @classmethod
    def of(cls, policy: Policy) -> Settings:
        return cls(**{name: getattr(policy, name) for name in cls.__slots__})


def policy_of(category: str) -> Policy:
    """Return the own policy of a category, or one that is not saved and decides nothing."""
    return Policy.objects.filter(category=category).first() or Policy(category=category)


def change(category: str, settings: Settings, user: AbstractBaseUser) -> Policy:
    """Save what the policy of a category may decide. "" are all categories without a policy of their own.

    Switching something on, or changing its promise, starts a new audit and ends a pause. Raises ValidationError by
    field: for a value out of range, an unknown category, and for what past decisions do not carry.
    """
    _check(category, settings)
    with transaction.atomic():
        policy = Policy.objects.select_for_update().filter(category=category).first() or Policy(category=category)
        before = Settings.of(policy)
        for name in Settings.__slots__:
            setattr(policy, name, getattr(settings, name))
        switched_on = (settings.confirms and not before.confirms) or (settings.calls_new and not before.calls_new)
        promises_otherwise = (settings.promise, settings.confidence) != (before.promise, before.confidence)
        if policy.is_on and (switched_on or promises_otherwise):
            _check_carried(policy)
            _start(policy)
        policy.evaluated_at = None
        with acting_as(current_source(), user):
            policy.save()
    return policy


def resume(policy: Policy, user: AbstractBaseUser) -> None:
    """Let a paused policy go on with a new audit. Raises ValidationError if past decisions do not carry it any more."""
    with transaction.atomic():
        policy = Policy.objects.select_for_update().get(pk=policy.pk)
        _check_carried(policy)
        _start(policy)
        with acting_as(current_source(), user):
            policy.save()


def remove(policy: Policy, user: AbstractBaseUser) -> None:
    """Delete the own policy of a category, so that the one of all others counts. Its decisions stay."""
    with acting_as(current_source(), user):
        policy.delete()


def _start(policy: Policy) -> None:
    policy.paused_at, policy.paused_because, policy.evaluated_at = None, "", None
    policy.counted_from = PolicyCase.objects.aggregate(last=Max("pk"))["last"] or 0


def _check(category: str, settings: Settings) -> None:
    errors: dict[str, ValidationError] = {}
    for name, (low, high) in (("promise", PROMISES), ("audit_share", AUDIT_SHARES)):
        if not low <= getattr(settings, name) <= high:  # also false for NaN
            text = _("This must be between %(low)g %% and %(high)g %%.")
            errors[name] = ValidationError(text % {"low": 100 * low, "high": 100 * high}, code="out_of_range")
    if settings.confidence not in CONFIDENCES:
        allowed = ", ".join(f"{100 * one:g} %" for one in CONFIDENCES)
        errors["confidence"] = ValidationError(_("This must be one of %s.") % allowed, code="out_of_range")
    known = Product.objects.filter(category=category) if category else None
    if known is not None and not known.exists() and not Policy.objects.filter(category=category).exists():
        errors["category"] = ValidationError(_("No product has the category “%s”.") % category, code="unknown")
    if errors:
        raise ValidationError(errors)


def _check_carried(policy: Policy) -> None:
    """Raise ValidationError for each thing that the policy may decide but past decisions do not carry."""
    _kind, model, _head = version_in_use()
    seen = preview(policy, model)
    wanted = (("confirms", policy.confirms, seen.same), ("calls_new", policy.calls_new, seen.new))
    errors = {
        name: ValidationError(side.why_not, code="not_carried") for name, on, side in wanted if on and side.why_not
    }
    if errors:
        raise ValidationError(errors)
