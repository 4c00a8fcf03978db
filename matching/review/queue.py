"""Which matches wait for a verdict: by score band, case by case, and what differs between two products."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Count, F, Max, Min, Q, QuerySet, Value
from django.utils import timezone
from django.utils.translation import gettext as _

from matching import service
from matching.models import Match, ReviewLease
from products.models import Product


@dataclass(frozen=True, slots=True)
class ScoreBand:
    """Scores from ``low`` to below ``high`` (the highest band takes 100 in too)."""

    low: int
    high: int

    @property
    def name(self) -> str:
        return str(self.low)

    @property
    def label(self) -> str:
        return f"{self.low}–{self.high}"

    def condition(self, field: str = "similarity_score") -> Q:
        """Whether the score in this field is one of the band."""
        below = "lte" if self.high == 100 else "lt"
        return Q((f"{field}__gte", self.low), (f"{field}__{below}", self.high))


BANDS = tuple(ScoreBand(low, high) for low, high in ((90, 100), (80, 90), (70, 80), (50, 70), (0, 50)))


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


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """Which cases to go through: matches of a band, of products in a category, added from one day to another."""

    band: ScoreBand | None = None
    category: str = ""
    since: date | None = None
    until: date | None = None

    def waiting(self, *, newest_first: bool = False) -> QuerySet[Match]:
        """The matches that wait for a verdict; ``in_turn``: newest product first."""
        matches: QuerySet[Match] = Match.objects.filter(review_status=Match.Status.PENDING)
        if newest_first:
            matches = matches.order_by("-product_id")
        if self.band is not None:
            # No index finds a computed score. So the turn is followed until one fits, where else all matches of the
            # band would be gathered and sorted.
            score = F("similarity_score") + 0.0 if newest_first else F("similarity_score")
            matches = matches.alias(score=score).filter(self.band.condition("score"))
        if self.category:
            matches = matches.filter(product__category=self.category)
        added = {}
        if self.since is not None:
            added["created_at__gte"] = midnight(self.since)
        if self.until is not None:
            added["created_at__lt"] = midnight(self.until + timedelta(days=1))
        if added:
            # The bounds spare looking up the product of every match: later products have higher ids, nearly always.
            ids = Product.objects.filter(**added).aggregate(first=Min("pk"), last=Max("pk"))
            matches = matches.filter(product__gte=ids["first"] or 0, product__lte=ids["last"] or 0)
            matches = matches.filter(**{f"product__{name}": value for name, value in added.items()})
        return matches


NO_FILTER = ReviewFilter()


def pending_by_band() -> dict[ScoreBand, int]:
    """How many matches wait for a verdict in each score band, highest first, in one query."""
    return dict(zip(BANDS, _sizes([ReviewFilter(band=band).waiting() for band in BANDS]), strict=True))


def pending_count(selection: ReviewFilter = NO_FILTER) -> int:
    """How many matches of the selection wait for a verdict in all."""
    return selection.waiting().count()


def verdicts_today(reviewer: AbstractBaseUser) -> int:
    """How many verdicts this person gave since midnight of the server's time zone."""
    return Match.objects.filter(reviewer_id=reviewer.pk, reviewed_at__gte=midnight(timezone.localdate())).count()


def verdicts_by_day(since: date) -> dict[date, int]:
    """How many verdicts that stand were given on each day from ``since`` to today, in one query."""
    days = [since + timedelta(days=number) for number in range((timezone.localdate() - since).days + 1)]
    given = [
        Match.objects.filter(reviewed_at__gte=midnight(day), reviewed_at__lt=midnight(day + timedelta(days=1)))
        for day in days
    ]
    return {day: size for day, size in zip(days, _sizes(given), strict=True) if size}


def _sizes(parts: Sequence[QuerySet[Match]]) -> list[int]:
    """How many matches each part has, in one query.

    Parts that are ranges of an index cost a fraction of one look at every match to tell in which part it is.
    """
    first, *others = (
        part.order_by()
        .annotate(part=Value(number))
        .values("part")
        .annotate(size=Count("pk"))
        .values_list("part", "size")
        for number, part in enumerate(parts)
    )
    sizes = dict(first.union(*others, all=True))
    return [sizes.get(number, 0) for number in range(len(parts))]


def next_case(
    selection: ReviewFilter = NO_FILTER, after: int | None = None, *, without: QuerySet[ReviewLease] | None = None
) -> int | None:
    """The id of the product whose matches are to be judged next: newest first, then round again; None for none.

    ``without``: turns whose cases are left to others.
    """
    pending_by_band = selection.waiting(newest_first=True)
    if without is not None:
        pending_by_band = pending_by_band.exclude(product__in=without.values("product"))
    ids = pending_by_band.exclude(product=after).values_list("product_id", flat=True)
    older = ids.filter(product_id__lt=after).first() if after is not None else None
    return older if older is not None else ids.first()


def reject_pending(product: Product, reviewer: AbstractBaseUser) -> list[int]:
    """None of these: reject every match of the product that still waits; answers the ids of these matches."""
    waiting_ids = list(product.matches.filter(review_status=Match.Status.PENDING).values_list("pk", flat=True))
    service.review_all(Match.objects.filter(pk__in=waiting_ids), Match.Status.REJECTED, reviewer)
    return waiting_ids


def undo_verdicts(match_ids: Collection[int], reviewer: AbstractBaseUser) -> None:
    """Take back those of the verdicts on these matches that are this reviewer's own."""
    service.review_all(Match.objects.filter(pk__in=match_ids, reviewer_id=reviewer.pk), Match.Status.PENDING, reviewer)


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


def midnight(day: date) -> datetime:
    """The beginning of a day in the server's time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def _text(value: object) -> str:
    return "" if value is None else str(value)
