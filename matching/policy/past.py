"""What people have decided, beside what the program had said before."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from django.db.models import QuerySet

from matching.models import Decision
from matching.policy.models import PolicyCase

MAX_DECISIONS = 10_000  # the newest; more would only take time
# A reviewer who confirms (nearly) everything says nothing. So many decisions show it, with this chance of an error.
MIN_OF_REVIEWER, CHANCE, AGREED = 20, 0.001, 0.98

Kind = Decision.Kind
_Row = tuple[int, str, int | None, datetime, str, list[int], list[dict[str, Any]], float]


@dataclass(frozen=True, slots=True)
class Past:
    """A decision of a person, and what the program had said.

    ``probability``: of the most likely candidate, whose id is ``candidate``. ``is_same`` and ``is_new``: whether it
    would have been right to say so; None if the decision does not tell. ``is_sample``: False for a case that a person
    took up because the policy had decided it.
    """

    product: int
    category: str
    reviewer: int | None
    decided_at: datetime
    model: str
    candidate: int | None
    probability: float
    not_in_catalogue: float
    is_same: bool | None
    is_new: bool | None
    is_sample: bool
    kind: str
    rank: int | None  # of the first candidate that it was decided to be, most probable first


def read(decisions: QuerySet[Decision] | None = None) -> list[Past]:
    """Return the newest decisions of people on cases that had probabilities, newest first."""
    chosen = Decision.objects.all() if decisions is None else decisions
    rows = chosen.filter(automatic=False, not_in_catalogue__isnull=False).exclude(kind=Kind.UNSURE)
    newest = list(
        rows.order_by("-pk").values_list(
            "product_id", "product__category", "reviewer_id", "decided_at", "kind", "candidates", "shown",
            "not_in_catalogue",
        )[:MAX_DECISIONS]
    )  # fmt: skip
    corrected = set(PolicyCase.objects.filter(is_audit=False).values_list("product_id", flat=True))
    return [_past(*cast("_Row", row), is_sample=row[0] not in corrected) for row in newest]


def _past(
    product: int, category: str, reviewer: int | None, at: datetime, kind: str, chosen: list[int],
    shown: list[dict[str, Any]], not_in_catalogue: float, *, is_sample: bool,
) -> Past:  # fmt: skip
    best = max(shown, key=lambda one: one.get("probability") or 0.0, default=None)
    candidate = best["candidate"] if best is not None else None
    return Past(
        product, category, reviewer, at,
        best["model"] if best is not None else "",
        candidate,
        (best.get("probability") or 0.0) if best is not None else 0.0,
        not_in_catalogue,
        is_same=None if candidate is None else kind == Kind.SAME and candidate in chosen,
        # A variant is not in the catalogue itself, but its family is. So it does not tell.
        is_new=None if kind == Kind.VARIANT else kind == Kind.NEW,
        is_sample=is_sample,
        kind=kind,
        rank=_rank(chosen, shown) if kind == Kind.SAME else None,
    )  # fmt: skip


def _rank(chosen: list[int], shown: list[dict[str, Any]]) -> int | None:
    best_first = sorted(shown, key=lambda one: -(one.get("probability") or 0.0))
    places = (place for place, one in enumerate(best_first, start=1) if one["candidate"] in chosen)
    return next(places, None)


def telling(decisions: Sequence[Past], model: str) -> tuple[list[Past], set[int]]:
    """Return the decisions that a promise about this model can rest on, and the reviewers whose decisions cannot.

    Probabilities of another model say nothing about this one.
    """
    of_model = [one for one in decisions if one.is_sample and one.model in ("", model)]
    careless = undiscerning(of_model)
    return [one for one in of_model if one.reviewer not in careless], careless


def undiscerning(decisions: Iterable[Past]) -> set[int]:
    """Return the reviewers who confirm whatever comes first, although some of it must be wrong.

    The program's own probabilities say how often a reviewer should have disagreed with its first candidate. Fewer
    disagreements than chance allows (Poisson) show that the reviewer did not look.
    """
    of_reviewer: dict[int, list[Past]] = defaultdict(list)
    for one in decisions:
        if one.reviewer is not None and one.is_same is not None:
            of_reviewer[one.reviewer].append(one)
    found = set()
    for reviewer, made in of_reviewer.items():
        disagreed = sum(not one.is_same for one in made)
        if len(made) >= MIN_OF_REVIEWER and disagreed <= (1 - AGREED) * len(made):
            expected = sum(1 - one.probability for one in made)
            if _at_most(disagreed, expected) < CHANCE:
                found.add(reviewer)
    return found


def _at_most(count: int, expected: float) -> float:
    """Return the chance of at most so many events if ``expected`` are expected (Poisson)."""
    if expected <= 0:
        return 1.0
    logarithms = (number * math.log(expected) - expected - math.lgamma(number + 1) for number in range(count + 1))
    return sum(map(math.exp, logarithms))
