"""Which matches wait for a verdict: by score band, case by case, and what differs between two products."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from matching import service
from matching.models import Match, ReviewTurn
from products.models import Product

TURN = timedelta(minutes=10)  # after that whoever had the case has left it
NOBODY, EVERYBODY = Q(pk__in=[]), Q()


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


def next_case(after: int | None = None, *, beside: Q = NOBODY) -> int | None:
    """The id of the product whose matches are to be judged next: newest first, then round again; None for none.

    ``beside``: the turns of those whose cases are left to them.
    """
    pending = Match.objects.filter(review_status=Match.Status.PENDING).order_by("-product_id")
    free = pending.exclude(product__in=ReviewTurn.objects.filter(beside).values("product"))
    ids = free.values_list("product_id", flat=True)
    older = ids.filter(product_id__lt=after).first() if after is not None else None
    found = older if older is not None else ids.first()
    return None if found == after else found


def take_case(reviewer: AbstractBaseUser, after: int | None = None) -> int | None:
    """The next case for this reviewer alone: for the length of a ``TURN`` nobody else gets it. None for none."""
    while True:
        over = Q(reviewer_id=reviewer.pk) | Q(taken_at__lte=timezone.now() - TURN)
        ReviewTurn.objects.filter(over).delete()
        product_id = next_case(after, beside=EVERYBODY)
        if product_id is None:
            return None
        turn, _created = ReviewTurn.objects.get_or_create(
            product_id=product_id, defaults={"reviewer_id": reviewer.pk, "taken_at": timezone.now()}
        )
        if turn.reviewer_id == reviewer.pk:
            return product_id
        # Somebody took it between the look and the taking: there is another.


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
