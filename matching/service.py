"""Find the historical products that look like a product or a picture and keep the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from gpu.encoders.registry import ClipUnavailableError, clip_status
from gpu.encoders.weights import model_id
from gpu.vectors import CLIP, LEGACY, LEGACY_MODEL, Features, Kind
from matching import index
from matching.index import Filters, Hit, SearchVectorError
from matching.models import Match
from matching.similarity import search_vector
from products.images.cleaning import Upload
from products.models import Feature, Product, ProductImage
from products.queue.claims import images_without_features_of
from products.queue.query_features import FeaturesPendingError, query_features

logger = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 50.0
DEFAULT_LIMIT = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A historical product that was found. ``image``: its picture that looks most alike; ``score``: 0 to 100."""

    image: ProductImage
    score: float
    rank: int
    match: Match | None = None

    @property
    def product(self) -> Product:
        return self.image.product


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The candidates for one question, best first, and what they were compared by."""

    feature_type: str
    model_name: str
    candidates: list[Candidate] = field(default_factory=list)
    product: Product | None = None


def find_matches(
    product_id: int,
    threshold: float = DEFAULT_THRESHOLD,
    limit: int = DEFAULT_LIMIT,
    category: str | None = None,
) -> SearchResult:
    """The historical products most like this one, by its best view, with verdicts given earlier. Saves nothing.

    Raises Product.DoesNotExist, FeaturesPendingError while no picture of the product is embedded, and
    SearchVectorError when its stored features are damaged.
    """
    return _attach_matches(_candidates_of_product(product_id, threshold, limit, category))


def match_image(
    upload: Upload,
    threshold: float = DEFAULT_THRESHOLD,
    limit: int = DEFAULT_LIMIT,
    category: str | None = None,
    wait: float = 5.0,
    feature_type: Kind | None = None,
) -> SearchResult:
    """The historical products most like a picture that is not stored.

    ``feature_type`` compares by that kind alone, whether or not all of the catalogue has it.
    Raises ImageProcessingError for a bad picture, FeaturesPendingError when no worker answered within ``wait`` s,
    and ClipUnavailableError when CLIP was asked for and is not there.
    """
    return _search(query_features(upload, wait), threshold, limit, category, feature_type=feature_type)


def save_matches(answer: SearchResult) -> SearchResult:
    """Keep an answer about a product: scores and ranks are updated, verdicts never touched.

    Pending matches that are no longer in the answer go, unless somebody left a note on them.
    Raises Product.DoesNotExist when the product was deleted meanwhile.
    """
    product = answer.product
    if product is None:
        raise ValueError("an answer about a picture that is not stored cannot be saved")
    # Made before: on SQLite all other writers wait for this transaction.
    now = timezone.now()
    wanted = {
        found.product.pk: Match(
            product=product,
            candidate=found.product,
            similarity_score=found.score,
            feature_type=answer.feature_type,
            model_name=answer.model_name,
            rank=found.rank,
            created_at=now,
            updated_at=now,
        )
        for found in answer.candidates
    }
    with transaction.atomic():
        # A row lock (PostgreSQL; SQLite has the write lock anyway): the product and the candidates stay meanwhile.
        alive = set(
            Product.objects.select_for_update(no_key=True)
            .filter(pk__in=[product.pk, *wanted])
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        if product.pk not in alive:
            raise Product.DoesNotExist(f"Product {product.pk} was deleted.")
        Match.objects.bulk_create(
            [match for candidate, match in wanted.items() if candidate in alive],
            update_conflicts=True,
            unique_fields=["product", "candidate"],
            update_fields=["similarity_score", "feature_type", "model_name", "rank", "updated_at"],
        )
        saved = {match.candidate_id: match for match in product.matches.order_by()}
        unwanted = [match.pk for candidate, match in saved.items() if candidate not in wanted]
        if unwanted:
            product.matches.filter(pk__in=unwanted, review_status=Match.Status.PENDING, note="").delete()
        if product.unmatched_since is not None:
            # Only if the features are still those that were searched by.
            Product.objects.filter(pk=product.pk, unmatched_since=product.unmatched_since).update(unmatched_since=None)
    kept = [found for found in answer.candidates if found.product.pk in saved]
    return replace(answer, candidates=[replace(found, match=saved[found.product.pk]) for found in kept])


def find_and_save_matches(
    product_id: int,
    threshold: float = DEFAULT_THRESHOLD,
    limit: int = DEFAULT_LIMIT,
    category: str | None = None,
) -> SearchResult:
    """``find_matches`` and ``save_matches`` in one; raises what they raise."""
    return save_matches(_candidates_of_product(product_id, threshold, limit, category))


def match_product(
    product_id: int, threshold: float = DEFAULT_THRESHOLD, limit: int = DEFAULT_LIMIT
) -> list[dict[str, Any]]:
    """Match a product, keep the answer, and give it as dictionaries (see ``as_dict``), best first.

    Raises what ``find_matches`` raises.
    """
    return [serialize_candidate(found) for found in find_and_save_matches(product_id, threshold, limit).candidates]


def match_products(
    product_ids: Iterable[int],
    threshold: float = DEFAULT_THRESHOLD,
    limit: int = DEFAULT_LIMIT,
    progress: Callable[[int, str | None], None] | None = None,
) -> int:
    """Match many products and keep the answers; answers how many were matched.

    A product that is gone or has no usable features is reported to ``progress(product_id, reason)`` and stops nothing.
    """
    matched = 0
    for product_id in product_ids:
        reason = None
        try:
            find_and_save_matches(product_id, threshold, limit)
            matched += 1
        except Product.DoesNotExist:
            reason = "the product was deleted"
        except (FeaturesPendingError, SearchVectorError) as error:
            reason = str(error)
        if reason is not None:
            logger.warning("Product %s was not matched: %s", product_id, reason)
        if progress is not None:
            progress(product_id, reason)
    return matched


def unmatched() -> QuerySet[Product]:
    """New products whose features changed since their matches were last looked up, longest waiting first."""
    return Product.objects.filter(unmatched_since__isnull=False, is_historical=False).order_by("unmatched_since")


def serialize_candidate(found: Candidate) -> dict[str, Any]:
    """A candidate in the words of the API; ``match_id`` and the verdict are there when the match is saved."""
    return {
        "match_id": found.match.pk if found.match else None,
        "product_id": found.product.pk,
        "sku": found.product.sku,
        "name": found.product.name,
        "category": found.product.category,
        "similarity_score": round(found.score, 2),
        "rank": found.rank,
        "image_url": found.image.file.url,
        "review_status": found.match.review_status if found.match else Match.Status.PENDING.value,
    }


def clip_covers_catalogue() -> bool:
    """Whether every historical picture that can be searched is embedded with the current CLIP model.

    Until then answers come from the legacy features, which all pictures have: while a catalogue moves to
    CLIP, or to another model, nothing of it is invisible.
    """
    lagging = ProductImage.objects.filter(images_without_features_of(model_id()), product__is_historical=True)
    return not lagging.exclude(state=ProductImage.State.FAILED).exists()


def _candidates_of_product(product_id: int, threshold: float, limit: int, category: str | None) -> SearchResult:
    """The answer about a product, whatever was saved of earlier ones."""
    product = Product.objects.get(pk=product_id)
    rows = Feature.objects.filter(product=product, model_name__in=[model_id(), LEGACY_MODEL]).order_by("id")
    features = [row.to_features() for row in rows]
    if not features:
        raise FeaturesPendingError(_why_no_features(product))
    return replace(_search(features, threshold, limit, category, exclude=product.pk), product=product)


def _attach_matches(answer: SearchResult) -> SearchResult:
    """The answer about a product with the matches that are saved of it, by which verdicts are known."""
    assert answer.product is not None  # noqa: S101  (for the type checker)
    matches = {match.candidate_id: match for match in answer.product.matches.order_by()}
    candidates = [replace(found, match=matches.get(found.product.pk)) for found in answer.candidates]
    return replace(answer, candidates=candidates)


def _search(
    features: Sequence[Features],
    threshold: float,
    limit: int,
    category: str | None,
    exclude: int | None = None,
    feature_type: Kind | None = None,
) -> SearchResult:
    by_clip = [part for part in features if part.kind == CLIP and part.model_name == model_id()]
    if feature_type is None:
        feature_type = CLIP if by_clip and clip_covers_catalogue() else LEGACY
    if feature_type == CLIP and not by_clip:
        raise ClipUnavailableError(clip_status().reason or "The picture was not embedded with CLIP.")
    used = by_clip if feature_type == CLIP else [part for part in features if part.model_name == LEGACY_MODEL]
    if not used:
        raise FeaturesPendingError(_("Legacy features are missing; `manage.py reindex --missing` computes them."))
    kind, model = used[0].kind, used[0].model_name
    vectors = np.stack([search_vector(part) for part in used])
    if not vectors.any(axis=1).all():
        raise SearchVectorError(_("The stored features are damaged. `manage.py verify --fix` has them computed anew."))
    filters = Filters(historical=True, category=category or None, exclude_product=exclude)
    k = limit
    while True:
        hits = index.search(vectors, k, kind=kind, model=model, filters=filters)
        found = _load(hits, category)
        # Rows that went since the index looked are replaced: ask for as many more.
        if len(found) >= limit or len(hits) < k:
            break
        k += limit - len(found)
    good = [(image, hit.score) for image, hit in found[:limit] if hit.score >= threshold]
    candidates = [Candidate(image, score, rank) for rank, (image, score) in enumerate(good, start=1)]
    return SearchResult(kind, model, candidates)


def _load(hits: Sequence[Hit], category: str | None) -> list[tuple[ProductImage, Hit]]:
    """The pictures of the hits with their products, without those that no longer qualify; one query."""
    qualifying = Q(product__is_historical=True)
    if category:
        qualifying &= Q(product__category=category)
    images = ProductImage.objects.select_related("product").filter(qualifying).order_by()
    by_id = {image.pk: image for image in images.filter(pk__in=[hit.image_id for hit in hits])}
    return [(by_id[hit.image_id], hit) for hit in hits if hit.image_id in by_id]


def _why_no_features(product: Product) -> str:
    states = set(product.images.values_list("state", flat=True))
    if not states:
        return _("Product %(id)s has no picture. Add one, then ask again.") % {"id": product.pk}
    if states == {ProductImage.State.FAILED}:
        return _("No picture of product %(id)s could be embedded. See the reasons at its pictures, or add another.") % {
            "id": product.pk
        }
    return _("The pictures of product %(id)s are still waiting to be embedded. Ask again in a moment.") % {
        "id": product.pk
    }
