"""Compare what a policy promised with what people said about the cases that it left to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from django.utils import timezone
from django.utils.translation import gettext as _

from matching.answers.wording import percent
from matching.models import Decision
from matching.policy.models import Policy, PolicyCase
from matching.policy.promises import interval, is_contradicted

_RANGE = 2**64


@dataclass(frozen=True, slots=True)
class Audit:
    """The check of a policy since it was switched on.

    ``checked``: cases of the audit that a person has decided, ``right``: as the policy would have, ``waiting``: open
    ones. ``decided``: automatic decisions, ``corrected``: those that a person has replaced by another.
    """

    promise: float
    confidence: float
    checked: int
    right: int
    waiting: int
    decided: int
    corrected: int

    @property
    def measured(self) -> float | None:
        return self.right / self.checked if self.checked else None

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.right, self.checked, self.confidence)

    @property
    def contradiction(self) -> str:
        """Return why the audit contradicts the promise, or ""."""
        if is_contradicted(self.promise, self.confidence, self.right, self.checked):
            return _(
                "People found %(right)d of %(checked)d checked cases right: at most %(high)s, and %(promise)s was "
                "promised."
            ) % {
                "right": self.right,
                "checked": self.checked,
                "high": percent(self.interval[1]),
                "promise": _promise(self.promise),
            }
        # Even if all others are right.
        if is_contradicted(self.promise, self.confidence, self.decided - self.corrected, self.decided):
            return _(
                "People have corrected %(corrected)d of %(decided)d automatic decisions, and %(promise)s was promised "
                "to be right."
            ) % {"corrected": self.corrected, "decided": self.decided, "promise": _promise(self.promise)}
        return ""

    def in_words(self) -> str:
        """Return the promise and the measured share as a sentence."""
        if not self.checked:
            return _("No case of the audit is decided yet.")
        low, high = self.interval
        return _("%(right)d of %(checked)d right: %(low)s to %(high)s.") % {
            "right": self.right, "checked": self.checked, "low": percent(low), "high": percent(high),
        }  # fmt: skip


def is_drawn(product_id: int, share: float) -> bool:
    """Return whether a case goes to people although the policy could decide it. The same product gives the same."""
    digest = hashlib.sha256(f"policy audit {product_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * _RANGE


def audit_of(policy: Policy) -> Audit:
    """Return what the audit of a policy has found since it was last switched on."""
    rows = PolicyCase.objects.filter(policy=policy, pk__gt=policy.counted_from).values_list(
        "is_audit", "kind", "candidate", "product__decision__automatic", "product__decision__kind",
        "product__decision__candidates",
    )  # fmt: skip
    checked = right = waiting = decided = corrected = 0
    for is_audit, kind, candidate, automatic, decision, chosen in rows.iterator():
        agrees = None if automatic is not False else _agrees(kind, candidate, decision, chosen)
        if is_audit:
            waiting += decision is None
            checked += agrees is not None
            right += agrees is True
        else:
            decided += 1
            corrected += agrees is False
    return Audit(policy.promise, policy.confidence, checked, right, waiting, decided, corrected)


def _agrees(kind: str, candidate: int | None, decision: str, chosen: list[int]) -> bool | None:
    """Return whether a person's decision says the same. None if it says nothing about it."""
    if decision == Decision.Kind.UNSURE:
        return None
    if kind == PolicyCase.Kind.SAME:
        return decision == Decision.Kind.SAME and candidate in chosen
    return None if decision == Decision.Kind.VARIANT else decision == Decision.Kind.NEW


def pause_if_contradicted(policy: Policy) -> bool:
    """Pause a policy that is on if its audit contradicts the promise. Return whether it is paused now."""
    if policy.paused_at is not None or not policy.is_on:
        return policy.paused_at is not None
    reason = audit_of(policy).contradiction
    if reason:
        policy.paused_at, policy.paused_because = timezone.now(), reason
        policy.save(update_fields=["paused_at", "paused_because"])
    return bool(reason)


def _promise(share: float) -> str:
    return f"{100 * share:g}\u00a0%"
