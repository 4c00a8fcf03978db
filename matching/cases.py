"""Which matches wait for a verdict: by score band, case by case, and what differs between two products."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from matching import service
from matching.models import Match
from products.models import Product


@dataclass(frozen=True, slots=True)
class Band:
    """Scores from ``low`` to below ``high`` (the highest band takes 100 in too)."""

    low: int
    high: int

    @property
    def name(self) -> str:
        return str(self.low)

    @property
    def label(self) -> str:
        return f"{self.low}–{self.high}"

    @property
    def condition(self) -> Q:
        below = Q(similarity_score__lte=100) if self.high == 100 else Q(similarity_score__lt=self.high)
        return Q(similarity_score__gte=self.low) & below


BANDS = tuple(Band(low, high) for low, high in ((90, 100), (80, 90), (70, 80), (50, 70), (0, 50)))


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute of the product asked about and of the candidate; empty where one has none."""

    name: str
    asked: str
    candidate: str

    @property
    def differs(self) -> bool:
        """Whether both have it and it is not the same."""
        return bool(self.asked and self.candidate) and self.asked.casefold() != self.candidate.casefold()


def waiting() -> dict[Band, int]:
    """How many matches wait for a verdict in each score band, highest first."""
    pending = Match.objects.filter(review_status=Match.Status.PENDING)
    counts = pending.aggregate(**{f"from_{band.name}": Count("pk", filter=band.condition) for band in BANDS})
    return {band: counts[f"from_{band.name}"] for band in BANDS}


def waiting_count() -> int:
    """How many matches wait for a verdict in all."""
    return Match.objects.filter(review_status=Match.Status.PENDING).count()


def verdicts_today(reviewer: AbstractBaseUser) -> int:
    """How many verdicts this person gave since midnight of the server's time zone."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return Match.objects.filter(reviewer_id=reviewer.pk, reviewed_at__gte=midnight).count()


def next_case(after: int | None = None) -> int | None:
    """The id of the product whose matches are to be judged next: newest first, then round again; None for none."""
    pending = Match.objects.filter(review_status=Match.Status.PENDING).order_by("-product_id")
    ids = pending.values_list("product_id", flat=True)
    if after is not None and (older := ids.filter(product_id__lt=after).first()) is not None:
        return older
    first = ids.first()
    return None if first == after else first


def reject_pending(product: Product, reviewer: AbstractBaseUser) -> int:
    """None of these: reject every match of the product that still waits; answers how many."""
    with transaction.atomic():
        waiting_ids = list(product.matches.filter(review_status=Match.Status.PENDING).values_list("pk", flat=True))
        for match_id in waiting_ids:
            service.review(match_id, Match.Status.REJECTED, reviewer)
    return len(waiting_ids)


def differences(asked: Product, candidate: Product) -> list[Difference]:
    """Category and all attributes of both, in the order in which the product asked about has them."""
    names = dict.fromkeys([*asked.attributes, *candidate.attributes])
    return [
        Difference(_("Category"), asked.category, candidate.category),
        *(
            Difference(str(name), _text(asked.attributes.get(name)), _text(candidate.attributes.get(name)))
            for name in names
        ),
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value)
