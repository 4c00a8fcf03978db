"""Find pairs of catalogue products that may be the same, and make them cases.

Each product is searched once in the index. A pair is one match, of the newer product with the older one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from matching import service
from matching.best_views import best_views
from matching.index import SearchVectorError
from matching.models import Decision, Match, ModelJob
from matching.service import Candidate
from products import model_versions
from products.models import Product
from products.queue.query_features import FeaturesPendingError

DEFAULT_THRESHOLD = 0.9
PARTNERS = 5  # of one product; more would be a group of duplicates, which the other members show
BATCH = 50  # products searched between two transactions, about a second


@dataclass(frozen=True, slots=True)
class Pair:
    """Two catalogue products that may be the same."""

    newer: int
    older: int
    candidate: Candidate
    kind: str
    model: str
    views: tuple[int | None, int | None]  # the images of the newer and the older product that have the score


def run(job: ModelJob, progress: Callable[[int], None]) -> dict[str, Any]:
    """Search all catalogue products, those after ``job.options["after"]`` if it was stopped. Return the report.

    Calls ``progress`` with the number of products, and stores the state of the job after each batch. Cases that an
    earlier search made and that are not found again are deleted, if they wait and have no note.
    """
    options = dict(job.options)
    progress(job.done)
    catalogue = Product.objects.filter(is_historical=True).order_by("pk")
    while products := list(catalogue.filter(pk__gt=options.get("after", 0))[:BATCH]):
        pairs, skipped = _search(products, options["threshold"])
        options["after"] = products[-1].pk
        options["skipped"] = options.get("skipped", 0) + skipped
        with transaction.atomic():
            options["created"] = options.get("created", 0) + _save(pairs)
            job.heartbeat(options=options, done=min(job.total, job.done + len(products)))
        job.done += len(products)
        progress(len(products))
    _outdated(job.created_at).delete()
    return {
        "threshold": options["threshold"],
        "products": job.done,
        "cases": open_cases().count(),
        "new": options.get("created", 0),
        "skipped": options.get("skipped", 0),
    }


def open_cases() -> QuerySet[Product]:
    """Return the catalogue products that are a case which waits for a decision."""
    pending = Match.objects.filter(review_status=Match.Status.PENDING, product__is_historical=True)
    return Product.objects.filter(pk__in=pending.values("product"))


def to_merge() -> QuerySet[Decision]:
    """Return the decisions that two catalogue products are the same, newest first. They can be merged."""
    decisions = Decision.objects.filter(kind=Decision.Kind.SAME, product__is_historical=True)
    return decisions.select_related("product", "reviewer").order_by("-decided_at", "-pk")


def _search(products: Sequence[Product], threshold: float) -> tuple[list[Pair], int]:
    """Return the pairs of these products above the threshold, and how many products could not be searched.

    A threshold up to 1 is a probability. A higher one is a score, and so is one hundred times the probability if
    nothing calibrates the version in use.
    """
    version = model_versions.answering()
    pairs: list[Pair] = []
    skipped = 0
    for product in products:
        try:
            result = service.search_product(product, version, threshold=0.0, limit=PARTNERS)
        except (FeaturesPendingError, SearchVectorError):
            skipped += 1
            continue
        found = [candidate for candidate in result.candidates if _strength(candidate, threshold) >= threshold]
        images = [candidate.image.pk for candidate in found]
        views = best_views(product.pk, images, result.feature_type, result.model_name) if found else {}
        for candidate in found:
            own, other = views.get(candidate.image.pk, (None, 0.0))[0], candidate.image.pk
            is_newer = product.pk > candidate.product.pk
            ids = (product.pk, candidate.product.pk) if is_newer else (candidate.product.pk, product.pk)
            sides = (own, other) if is_newer else (other, own)
            pairs.append(Pair(*ids, candidate, result.feature_type, result.model_name, sides))
    return pairs, skipped


def _strength(candidate: Candidate, threshold: float) -> float:
    if threshold > 1:
        return candidate.score
    return candidate.score / 100 if candidate.probability is None else candidate.probability


def _save(pairs: Sequence[Pair]) -> int:
    """Save these pairs as matches, each once. Return how many are new.

    Verdicts stay. A product that was decided to be the same as another, or a variant, gets no new candidate; the pair
    is then a case of the older product, unless that is decided too.
    """
    ids = {pk for pair in pairs for pk in (pair.newer, pair.older)}
    existing = set(
        Product.objects.select_for_update(no_key=True)
        .filter(pk__in=ids, is_historical=True)
        .order_by("pk")
        .values_list("pk", flat=True)
    )
    stored = Match.objects.select_for_update().filter(product__in=ids, candidate__in=ids).order_by("pk")
    known = {(match.product_id, match.candidate_id): match for match in stored}
    settled = set(
        Decision.objects.filter(
            product__in=ids, kind__in=(Decision.Kind.SAME, Decision.Kind.VARIANT)
        ).values_list("product", flat=True)
    )  # fmt: skip
    now = timezone.now()
    matches: dict[tuple[int, int], Match] = {}
    ranks: dict[int, int] = defaultdict(int)
    created = 0
    for pair in pairs:
        if not {pair.newer, pair.older} <= existing:
            continue
        key, views = (pair.newer, pair.older), pair.views
        if key not in known and (key[::-1] in known or pair.newer in settled):
            key, views = key[::-1], views[::-1]
        if key not in known and key[0] in settled:
            continue
        before = matches.get(key) or known.get(key)
        known_before = before.probability if before is not None else None
        probabilities = [one for one in (pair.candidate.probability, known_before) if one is not None]
        created += before is None
        if key not in matches:
            ranks[key[0]] += 1
        matches[key] = Match(
            product_id=key[0],
            candidate_id=key[1],
            similarity_score=pair.candidate.score,
            feature_type=pair.kind,
            model_name=pair.model,
            rank=ranks[key[0]],
            probability=max(probabilities, default=None),  # both sides may have found the pair
            evidence=[item.as_json() for item in pair.candidate.evidence],
            product_image_id=views[0],
            candidate_image_id=views[1],
            created_at=now,
            updated_at=now,
        )
    Match.objects.bulk_create(
        matches.values(),
        update_conflicts=True,
        unique_fields=["product", "candidate"],
        update_fields=[
            "similarity_score", "feature_type", "model_name", "rank", "probability", "evidence", "product_image",
            "candidate_image", "updated_at",
        ],
    )  # fmt: skip
    return created


def _outdated(since: datetime) -> QuerySet[Match]:
    """Return the waiting pairs of the catalogue that no search since then has found."""
    return Match.objects.filter(
        product__is_historical=True, candidate__is_historical=True,
        review_status=Match.Status.PENDING, note="", updated_at__lt=since,
    )  # fmt: skip
