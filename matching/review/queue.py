"""The review queue: open cases by the score of their best candidate, the next case, and counts of decisions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Count, Exists, F, FloatField, Max, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy

from matching.models import Decision, Match, ReviewLease
from matching.review.cases import DUPLICATE
from matching.review.usefulness import next_useful
from products.importing.undo import made_by
from products.models import Import, Product


@dataclass(frozen=True, slots=True)
class ScoreBand:
    """Scores from ``low`` to below ``high``. The highest band includes 100."""

    low: int
    high: int

    @property
    def name(self) -> str:
        return str(self.low)

    @property
    def label(self) -> str:
        return f"{self.low}–{self.high}"

    def condition(self, field: str = "similarity_score") -> Q:
        """Return the condition that the score in this field is in the band."""
        below = "lte" if self.high == 100 else "lt"
        return Q((f"{field}__gte", self.low), (f"{field}__{below}", self.high))


BANDS = tuple(ScoreBand(low, high) for low, high in ((90, 100), (80, 90), (70, 80), (50, 70), (0, 50)))


NEWEST, USEFUL, PROBABILITY, CATEGORY = "newest", "useful", "probability", "category"
ORDERS = {
    NEWEST: gettext_lazy("newest first"),
    USEFUL: gettext_lazy("most useful first"),
    PROBABILITY: gettext_lazy("most probable first"),
    CATEGORY: gettext_lazy("by category"),
}
# A match without a probability counts by its score, as a case from before the first calibration.
CHANCE = Coalesce(F("probability"), F("similarity_score") / 100.0, output_field=FloatField())
PACE_MINUTES = 15
MIN_PACE = 3  # decisions in that time, so that one click is no pace


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """Which cases to review, and in what order. ``since`` and ``until``: when the product was added.

    ``imported``: only products that this import made.

    ``kind``: DUPLICATE for pairs inside the catalogue, NEW_PRODUCT for others, "" for all.
    """

    kind: str = ""
    band: ScoreBand | None = None
    category: str = ""
    since: date | None = None
    until: date | None = None
    imported: Import | None = None
    order: str = NEWEST

    def pending(self, *, newest_first: bool = False) -> QuerySet[Match]:
        """Return the pending matches of these cases, on request by newest product first.

        With a band, a case counts if its best pending match is in it.
        """
        matches: QuerySet[Match] = Match.objects.filter(review_status=Match.Status.PENDING)
        if newest_first:
            matches = matches.order_by("-product_id")
        if self.band is not None:
            # "+ 0.0" keeps the database off the index by score. It then walks the products in order and stops at the
            # first match in the band. By score, it would collect and sort all matches of the band.
            score = F("similarity_score") + 0.0 if newest_first else F("similarity_score")
            matches = matches.alias(score=score).filter(self.band.condition("score"))
            if self.band.high < 100:
                better = Match.objects.filter(
                    product=OuterRef("product"),
                    review_status=Match.Status.PENDING,
                    similarity_score__gte=self.band.high,
                )
                matches = matches.exclude(Exists(better))
        if self.kind:
            matches = matches.filter(product__is_historical=self.kind == DUPLICATE)
        if self.category:
            matches = matches.filter(product__category=self.category)
        if self.imported is not None:
            matches = matches.filter(product__in=made_by(self.imported))
        added = {}
        if self.since is not None:
            added["created_at__gte"] = midnight(self.since)
        if self.until is not None:
            added["created_at__lt"] = midnight(self.until + timedelta(days=1))
        if added:
            # Ids nearly always rise with the date. Their bounds spare looking up the product of every match.
            ids = Product.objects.filter(**added).aggregate(first=Min("pk"), last=Max("pk"))
            matches = matches.filter(product__gte=ids["first"] or 0, product__lte=ids["last"] or 0)
            matches = matches.filter(**{f"product__{name}": value for name, value in added.items()})
        return matches


NO_FILTER = ReviewFilter()


def open_by_band() -> dict[ScoreBand, int]:
    """Count the open cases by the band of their best pending match, highest first, in one query.

    The index by verdict, product and score holds all that this reads.
    """
    pending = Match.objects.filter(review_status=Match.Status.PENDING).order_by()
    best = pending.values("product").annotate(best=Max("similarity_score"))
    counts = best.aggregate(**{f"band_{band.name}": Count("product", filter=band.condition("best")) for band in BANDS})
    return {band: counts[f"band_{band.name}"] for band in BANDS}


def open_count(review_filter: ReviewFilter = NO_FILTER) -> int:
    """Count the open cases that pass the filter."""
    count: int = review_filter.pending().order_by().aggregate(count=Count("product", distinct=True))["count"]
    return count


def decisions_today(reviewer: AbstractBaseUser) -> int:
    """Count the reviewer's decisions since midnight in the server's time zone."""
    return Decision.objects.filter(reviewer_id=reviewer.pk, decided_at__gte=midnight(timezone.localdate())).count()


def decisions_by_day(since: date) -> dict[date, int]:
    """Count the decisions of each day from ``since`` to today, in one query."""
    days = [since + timedelta(days=number) for number in range((timezone.localdate() - since).days + 1)]
    within = {
        f"day_{number}": Count(
            "pk", filter=Q(decided_at__gte=midnight(day), decided_at__lt=midnight(day + timedelta(days=1)))
        )
        for number, day in enumerate(days)
    }
    counts = Decision.objects.filter(decided_at__gte=midnight(since)).aggregate(**within)
    return {day: counts[f"day_{number}"] for number, day in enumerate(days) if counts[f"day_{number}"]}


def next_case(
    review_filter: ReviewFilter = NO_FILTER,
    after: int | None = None,
    *,
    excluding: QuerySet[ReviewLease] | None = None,
    seen: Collection[int] = (),
) -> int | None:
    """Return the id of the next product to review, or None.

    Cases come in the order of the filter. After the last one the queue starts again with the first.
    By most useful first, those that were ``seen`` come again after all others.
    Cases with a lease in ``excluding`` are skipped.
    """
    if review_filter.order == USEFUL:
        open_cases = Product.objects.filter(pk__in=review_filter.pending().order_by().values("product"))
        if excluding is not None:
            open_cases = open_cases.exclude(pk__in=excluding.values("product"))
        found = next_useful(open_cases, after, seen)
        return found if found is not None or not seen else next_useful(open_cases, after, ())
    by_order = {PROBABILITY: _by_probability, CATEGORY: _by_category}.get(review_filter.order, _by_newest)
    matches, later = by_order(review_filter, after)
    if excluding is not None:
        matches = matches.exclude(product__in=excluding.values("product"))
    ids = matches.exclude(product=after).values_list("product_id", flat=True)
    following = ids.filter(later).first() if later is not None else None
    return following if following is not None else ids.first()


def _by_newest(review_filter: ReviewFilter, after: int | None) -> tuple[QuerySet[Match], Q | None]:
    """Return the pending matches in order, and the condition on those that come after a case."""
    return review_filter.pending(newest_first=True), Q(product_id__lt=after) if after is not None else None


def _by_probability(review_filter: ReviewFilter, after: int | None) -> tuple[QuerySet[Match], Q | None]:
    """Put the case with the most probable candidate first, see ``_by_newest``."""
    matches = review_filter.pending().annotate(chance=CHANCE).order_by("-chance", "-product_id")
    shown = Match.objects.filter(product=after).annotate(chance=CHANCE) if after is not None else None
    best = shown.aggregate(best=Max("chance"))["best"] if shown is not None else None
    if best is None:
        return matches, None
    # A case whose better candidate came before is not shown again for its second one.
    better = Match.objects.filter(product=OuterRef("product"), review_status=Match.Status.PENDING).annotate(
        chance=CHANCE
    )
    came_before = Exists(better.filter(Q(chance__gt=best) | Q(chance=best, product_id__gt=after)))
    return matches, (Q(chance__lt=best) | Q(chance=best, product_id__lt=after)) & ~Q(came_before)


def _by_category(review_filter: ReviewFilter, after: int | None) -> tuple[QuerySet[Match], Q | None]:
    """Put the cases of one category beside each other, the newest of each first, see ``_by_newest``."""
    matches = review_filter.pending().order_by("product__category", "-product_id")
    shown = Product.objects.filter(pk=after).values_list("category", flat=True).first() if after is not None else None
    if shown is None:
        return matches, None
    return matches, Q(product__category__gt=shown) | Q(product__category=shown, product_id__lt=after)


def today_and_pace(reviewer: AbstractBaseUser) -> tuple[int, float | None]:
    """Return the reviewer's decisions since midnight, and those per minute of the last minutes, in one query.

    The pace is None after only a few decisions.
    """
    now, today = timezone.now(), midnight(timezone.localdate())
    recent = now - timedelta(minutes=PACE_MINUTES)
    mine = Decision.objects.filter(reviewer_id=reviewer.pk, decided_at__gte=min(recent, today))
    found = mine.aggregate(
        today=Count("pk", filter=Q(decided_at__gte=today)),
        recent=Count("pk", filter=Q(decided_at__gte=recent)),
        first=Min("decided_at", filter=Q(decided_at__gte=recent)),
    )
    if found["recent"] < MIN_PACE:
        return found["today"], None
    minutes = max((now - found["first"]).total_seconds() / 60, 0.1)
    return found["today"], found["recent"] / minutes


def midnight(day: date) -> datetime:
    """Return the beginning of a day in the server's time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))
