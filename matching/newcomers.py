"""Find the open cases that newcomers could answer: products that came into the catalogue after the search.

``Product.unmatched_since`` of a catalogue product says since when it waits for this. The newcomers are compared with
the open cases in blocks. Only cases that get a better candidate are searched again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from core import clock
from core.database.batches import iter_batches
from matching import service
from matching.answers.identified import owners_of_barcodes, spellings
from matching.answers.records import records_of
from matching.index import loading
from matching.index.types import Ids, Vectors
from matching.models import Decision, Match
from matching.preferences import default_limit, default_threshold
from matching.similarity import score_of
from products.models import Feature, Product, ProductImage

MAX_NEWCOMERS = 500  # compared at once; 2 kB each, and named in one message
BLOCK = 1_000  # open cases in one multiplication, some 50 ms
IDENTIFIED_AT_ONCE = 100  # each has up to five numbers, which are parameters of a query
# A long import is followed at its end, and once. A catalogue that always gets images is followed this late.
MAX_WAIT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Newcomers:
    """Catalogue products that wait to be compared with the open cases. ``until``: when the last of them came."""

    ids: list[int]
    until: datetime


@dataclass(frozen=True, slots=True)
class Block:
    """Open cases up to the id ``last`` that were compared, and those that are now marked as unmatched."""

    newcomers: Newcomers
    last: int
    marked: list[int]


def follow(newcomers: Newcomers | None = None, after: int = 0) -> Iterator[Block]:
    """Compare all newcomers with the open cases. Mark those that get a better candidate as unmatched.

    ``newcomers`` and ``after``: a comparison to go on with first, and the last case that it compared.
    """
    while (current := newcomers or _next_newcomers()) is not None:
        while (block := _compare_block(current, after)) is not None:
            yield block
            after = block.last
        # Those that changed since still wait.
        _waiting().filter(pk__in=current.ids, unmatched_since__lte=current.until).update(unmatched_since=None)
        newcomers, after = None, 0


def _next_newcomers() -> Newcomers | None:
    """Return the newcomers that wait longest.

    None too while catalogue images wait to be embedded, for at most MAX_WAIT.
    """
    rows = list(_waiting().order_by("unmatched_since", "pk").values_list("pk", "unmatched_since")[:MAX_NEWCOMERS])
    queued = ProductImage.objects.filter(
        state__in=(ProductImage.State.PENDING, ProductImage.State.CLAIMED), product__is_historical=True
    )
    if not rows or (queued.exists() and not _waiting().filter(clock.over("unmatched_since", MAX_WAIT)).exists()):
        return None
    until = rows[-1][1]
    assert until is not None  # noqa: S101  # nosec B101 # for the type checker
    return Newcomers([pk for pk, _since in rows], until)


def _compare_block(newcomers: Newcomers, after: int) -> Block | None:
    """Compare the next open cases and mark them. Return None after the last one.

    Cases that wait to be searched are marked again, because a search in progress may have missed the newcomers.
    """
    cases = list(_open_cases().filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:BLOCK])
    if not cases:
        return None
    answerable = _improved(newcomers.ids, cases)
    if after == 0:
        answerable |= _identified(newcomers.ids)
    for ids in iter_batches(sorted(answerable)):
        _open_cases().filter(pk__in=ids).update(unmatched_since=timezone.now())
    return Block(newcomers, cases[-1], sorted(answerable))


def _waiting() -> QuerySet[Product]:
    return Product.objects.filter(unmatched_since__isnull=False, is_historical=True)


def _open_cases() -> QuerySet[Product]:
    """Return the new products that were searched or can be, and that have no decision."""
    has_features = Exists(Feature.objects.filter(product=OuterRef("pk")))
    decided = Exists(Decision.objects.filter(product=OuterRef("pk")))
    return Product.objects.filter(has_features, ~decided, is_historical=False)


def _improved(newcomers: Sequence[int], cases: Sequence[int]) -> set[int]:
    """Return the cases in which a newcomer would be among the candidates that a search saves."""
    kind, model, head = service.version_in_use()
    floor = head.score_floor if head is not None else None
    # A range of ids, because a thousand parameters would take longer than the comparison.
    between = {"product__gte": cases[0], "product__lte": cases[-1]}
    stored = Feature.objects.filter(kind=kind, model_name=model)
    products, vectors = _vectors(stored.filter(product__is_historical=False, **between), kind, model)
    _owners, others = _vectors(stored.filter(product__in=newcomers), kind, model)
    if not len(vectors) or not len(others):
        return set()
    best: dict[int, float] = {}
    for product, dot in zip(products.tolist(), (vectors @ others.T).max(axis=1).tolist(), strict=True):
        best[product] = max(best.get(product, -1.0), dot)
    saved = Match.objects.filter(model_name=model, **between).order_by().values("product")
    worst: dict[int, tuple[int, float]] = {
        row["product"]: (row["count"], row["worst"])
        for row in saved.annotate(count=Count("pk"), worst=Min("similarity_score"))
    }
    compared, threshold, limit = set(cases), default_threshold(), default_limit()
    return {
        product
        for product, dot in best.items()
        if product in compared
        and _is_candidate(score_of(dot, kind, floor), *worst.get(product, (0, threshold)), threshold, limit)
    }


def _is_candidate(score: float, count: int, worst: float, threshold: float, limit: int) -> bool:
    """Return whether a case with so many candidates would get one more with this score."""
    if count >= limit:
        return score > worst
    return score >= min(worst, threshold)


def _identified(newcomers: Sequence[int]) -> set[int]:
    """Return the open cases that have the GTIN, ISBN or MPN of a newcomer, in a field or a barcode."""
    found: set[int] = set()
    for ids in iter_batches(newcomers, IDENTIFIED_AT_ONCE):
        products = list(Product.objects.filter(pk__in=ids))
        records = records_of(products)
        numbers = {
            spelling
            for product in products
            for identifier in records[product.pk].identifiers
            for spelling in spellings(identifier)
        }
        parts = {product.mpn for product in products} - {""}
        scanned = owners_of_barcodes(number.zfill(14) for number in numbers)
        same = Q(gtin__in=numbers) | Q(mpn__in=parts) | Q(pk__in=scanned)
        found.update(_open_cases().filter(same).values_list("pk", flat=True))
    return found


def _vectors(features: QuerySet[Feature], kind: str, model: str) -> tuple[Ids, Vectors]:
    """Return the product ids (n,) and unit vectors (n, d) of these features. Damaged ones are left out."""
    found = list(features.order_by("pk").values_list("pk", "dim"))
    if not found:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    ids = np.array([pk for pk, _dim in found], np.int64)
    _images, owners, vectors = loading.fetch_for_scoring(kind, model, found[0][1], ids)
    return owners, vectors
