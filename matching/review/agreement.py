"""How far two reviewers agree: a sample of decided cases gets a second answer, and what the answers say together."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass

from django import forms
from django.utils.translation import gettext_lazy as _

from matching.learning.intervals import Interval, wilson
from matching.models import Decision, SecondOpinion
from products.preferences import declare, value

State = SecondOpinion.State

SHARE = declare(
    "review.second_share", _("Review"), 0,
    lambda: forms.IntegerField(
        label=_("Cases with a second reviewer, in percent"), min_value=0, max_value=100,
        help_text=_(
            "So many of the decided cases are shown to another reviewer without the first answer. "
            "The page Agreement shows how far both agree. 0: none."
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often both reviewers gave the same answer. ``kappa`` is None if chance alone explains everything.

    ``interval``: of the share, at 95 %.
    """

    count: int
    agreed: int
    interval: Interval
    kappa: float | None

    @property
    def share(self) -> float:
        return self.agreed / self.count


def note_first(decision: Decision) -> None:
    """Put a decided case into the sample if it belongs there. A changed decision is the new first answer."""
    share = value(SHARE)
    # By the id, so that deciding a case again does not draw again.
    if not share or zlib.crc32(str(decision.product_id).encode()) % 100 >= share:
        return
    first = {"kind": decision.kind, "candidates": sorted(decision.candidates)}
    values = {"first": first, "first_reviewer_id": decision.reviewer_id}
    made, is_new = SecondOpinion.objects.get_or_create(product_id=decision.product_id, defaults=values)
    if not is_new:
        SecondOpinion.objects.filter(pk=made.pk, state=State.WAITING).update(**values)


def forget_first(product_id: int) -> None:
    """Take a case whose decision was undone out of the sample, unless it has its second answer."""
    SecondOpinion.objects.filter(product_id=product_id, state=State.WAITING).delete()


def agreement() -> Agreement | None:
    """Return how far both reviewers agree over all cases with two answers, or None without any.

    Source of kappa: Cohen, "A coefficient of agreement for nominal scales", 1960. Its categories are the kinds of
    decisions. The share also asks for the same candidates.
    """
    answers = SecondOpinion.objects.exclude(state=State.WAITING).values_list("first", "second")
    pairs = [(first, second) for first, second in answers if second]
    if not pairs:
        return None
    count, agreed = len(pairs), sum(first == second for first, second in pairs)
    kinds = [(first["kind"], second["kind"]) for first, second in pairs]
    firsts, seconds = Counter(first for first, _second in kinds), Counter(second for _first, second in kinds)
    observed = sum(first == second for first, second in kinds) / count
    by_chance = sum(firsts[kind] * seconds[kind] for kind in firsts) / count**2
    kappa = (observed - by_chance) / (1 - by_chance) if by_chance < 1 else None
    return Agreement(count, agreed, wilson(agreed, count), kappa)
