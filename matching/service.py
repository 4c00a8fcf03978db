"""Find the catalogue products that look like a product or an image, and save them as matches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Count, Min, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from gpu.encoders.registry import ClipUnavailableError, clip_status
from gpu.heads import Head
from gpu.sandbox.pool import DecodedImage
from gpu.search_vectors import search_vector
from gpu.vectors import CLIP, HEAD, LEGACY, LEGACY_MODEL, Features, Kind
from matching import index
from matching.answers.answering import Answer, WeighedEvidence, judge, no_answer
from matching.answers.candidates import find_candidates
from matching.answers.choice import CONSIDERED
from matching.answers.marks import wrong_evidence
from matching.answers.records import record_of
from matching.best_views import best_views
from matching.evidence.records import Record, parse_record
from matching.index import Filters, Hit, SearchVectorError
from matching.index.confirmed import shown_products
from matching.models import Decision, Match, ProductAnswer
from matching.policy import deciding
from matching.preferences import default_limit, default_threshold
from products import model_versions
from products.exporting import LARGE_COLUMNS
from products.images.cleaning import Upload, clean_query
from products.model_versions import Version
from products.models import Feature, Product, ProductImage
from products.queue.claims import encoders_are_complete
from products.queue.query_features import FeaturesPendingError, query_features

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A catalogue product with its most similar image. ``score``: 0 to 100.

    ``probability``: how likely it is the product asked about, None if nothing calibrates this version yet.
    """

    image: ProductImage
    score: float
    rank: int
    probability: float | None = None
    evidence: Sequence[WeighedEvidence] = ()
    match: Match | None = None
    query_image_id: int | None = None  # the image of the searched product that the score is of, if stored

    @property
    def product(self) -> Product:
        return self.image.product


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The candidates of one query, best first, the features that were compared, and the answer.

    ``not_in_catalogue``: the probability that no catalogue product is the one asked about. ``notice``: what the user
    should know about the search, or empty.
    """

    feature_type: str
    model_name: str
    candidates: list[Candidate] = field(default_factory=list)
    answer: Answer = Answer.LOOK
    not_in_catalogue: float | None = None
    product: Product | None = None
    notice: str = ""


def find_matches(
    product_id: int,
    threshold: float | None = None,
    limit: int | None = None,
    category: str | None = None,
) -> SearchResult:
    """Return the catalogue products most similar to this one, with existing verdicts.

    The best image of each product counts. Without threshold and limit, the preferences count. Saves nothing. Raises
    Product.DoesNotExist, FeaturesPendingError if no image
    of the product is embedded yet, and SearchVectorError if its stored features are damaged.
    """
    return _attach_matches(_candidates_of_product(product_id, threshold, limit, category))


def match_images(
    uploads: Iterable[Upload],
    threshold: float | None = None,
    limit: int | None = None,
    category: str | None = None,
    wait: float = 5.0,
    feature_type: Kind | None = None,
    version: str | None = None,
) -> SearchResult:
    """Return the catalogue products most similar to a product whose images are not stored.

    The images show one product: for each candidate the best pair of images counts, as between stored products.
    ``feature_type`` forces one kind of features, even if parts of the catalogue lack them. ``version`` searches with
    another version than the one in use.
    Raises VersionError if that does not exist, and ImageProcessingError for a bad image. Raises FeaturesPendingError if
    the workers need more than ``wait`` seconds for all images. Raises ClipUnavailableError if ``feature_type`` is CLIP
    and CLIP is not available, or if the version needs features that the images lack.
    """
    images = [clean_query(upload) for upload in uploads]
    features, used = features_of_images(images, wait, version)
    if version is not None and used.head is not None:
        feature_type = HEAD
    barcodes = tuple(dict.fromkeys(number for image in images for number in image.barcodes))
    record = parse_record(barcodes=barcodes) if barcodes else None
    bounds = with_defaults(threshold, limit)
    return search_features(features, used, *bounds, category, feature_type=feature_type, record=record)


def match_image(
    upload: Upload,
    threshold: float | None = None,
    limit: int | None = None,
    category: str | None = None,
    wait: float = 5.0,
    feature_type: Kind | None = None,
    version: str | None = None,
) -> SearchResult:
    """Call ``match_images`` with one image."""
    return match_images([upload], threshold, limit, category, wait, feature_type, version)


def features_of_images(
    uploads: Iterable[Upload | DecodedImage], wait: float = 5.0, version: str | None = None
) -> tuple[list[Features], Version]:
    """Return the features of images that are not stored, and the version that compares them.

    Raises VersionError, ImageProcessingError and FeaturesPendingError, see ``match_images``.
    """
    deadline = time.monotonic() + wait
    used = model_versions.answering() if version is None else model_versions.resolve(version)
    features: list[Features] = []
    for upload in uploads:
        computed = query_features(upload, max(0.0, deadline - time.monotonic()), used.sources)
        features += model_versions.with_head(computed, used.head)
    return features, used


def search_features(
    features: Sequence[Features],
    version: Version,
    threshold: float,
    limit: int,
    category: str | None = None,
    feature_type: Kind | None = None,
    asked: Product | None = None,
    without: Collection[int] = (),
    is_answered: bool = True,
    record: Record | None = None,
) -> SearchResult:
    """Search by features of one product, and judge the candidates by everything that is known.

    The most probable candidate comes first. ``asked``: the product, if it is stored, which is never its own candidate.
    ``record``: what is known about one that is not stored. Products with its identifiers or its name are candidates
    whatever their score is. ``without``: ids of products that count as not being in the catalogue. ``is_answered``:
    False for a search whose scores are no similarity of images. Raises what ``match_images`` raises.
    """
    record = record_of(asked) if asked is not None else record
    wrong = wrong_evidence(asked.pk if asked is not None else None)
    identified = find_candidates(asked or Product(), record, wrong.own) if record is not None else []
    kind, model, found = _nearest(
        features, version, max(limit, CONSIDERED), category, feature_type, asked, without, identified
    )
    products, scores = [image.product for image, _hit in found], [hit.score for _image, hit in found]
    judged = judge(record, products, scores, model, wrong) if is_answered else no_answer(products)
    candidates = [
        Candidate(image, hit.score, 0, probability, evidence)
        for (image, hit), probability, evidence in zip(found, judged.probabilities, judged.evidence, strict=True)
    ]
    candidates.sort(key=lambda candidate: -(candidate.probability or 0.0))  # equal ones stay in the order of the scores
    shown = [
        candidate for candidate in candidates if candidate.score >= threshold or candidate.product.pk in identified
    ][:limit]
    ranked = [replace(candidate, rank=rank) for rank, candidate in enumerate(shown, start=1)]
    return SearchResult(kind, model, ranked, judged.answer, judged.not_in_catalogue, asked)


def save_matches(result: SearchResult) -> SearchResult:
    """Save the candidates of a product as matches. Keep the verdicts.

    Deletes pending matches that the result no longer has, unless they have a note. A product that was decided to be the
    same as another, or a variant, gets no new candidates. At the end the policy of its category may decide the case.
    Raises Product.DoesNotExist if the product was deleted during the search.
    """
    product = result.product
    if product is None:
        raise ValueError("the result of an image that is not stored cannot be saved")
    # Built outside the transaction, because on SQLite it blocks all other writers.
    now = timezone.now()
    matches = {
        candidate.product.pk: Match(
            product=product,
            candidate=candidate.product,
            similarity_score=candidate.score,
            feature_type=result.feature_type,
            model_name=result.model_name,
            rank=candidate.rank,
            probability=candidate.probability,
            evidence=[item.as_json() for item in candidate.evidence],
            product_image_id=candidate.query_image_id,
            candidate_image_id=candidate.image.pk,
            created_at=now,
            updated_at=now,
        )
        for candidate in result.candidates
    }
    with transaction.atomic():
        # On PostgreSQL the row locks keep the products from being deleted. SQLite has its write lock.
        existing = set(
            Product.objects.select_for_update(no_key=True)
            .filter(pk__in=[product.pk, *matches])
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        if product.pk not in existing:
            raise Product.DoesNotExist(f"Product {product.pk} was deleted.")
        # Verdicts lock matches by key too, so that neither waits for the other in a circle.
        list(product.matches.select_for_update().order_by("pk").values_list("pk"))
        to_save = existing & matches.keys()
        if Decision.objects.filter(product=product, kind__in=(Decision.Kind.SAME, Decision.Kind.VARIANT)).exists():
            to_save &= set(product.matches.order_by().values_list("candidate_id", flat=True))
        Match.objects.bulk_create(
            [match for candidate, match in matches.items() if candidate in to_save],
            update_conflicts=True,
            unique_fields=["product", "candidate"],
            update_fields=[
                "similarity_score", "feature_type", "model_name", "rank", "probability", "evidence", "product_image",
                "candidate_image", "updated_at",
            ],
        )  # fmt: skip
        saved = {match.candidate_id: match for match in product.matches.order_by()}
        obsolete = [match.pk for candidate, match in saved.items() if candidate not in matches]
        if obsolete:
            product.matches.filter(pk__in=obsolete, review_status=Match.Status.PENDING, note="").delete()
        answer = ProductAnswer(
            product=product, answer=result.answer, not_in_catalogue=result.not_in_catalogue, answered_at=now
        )
        ProductAnswer.objects.bulk_create(
            [answer],
            update_conflicts=True,
            unique_fields=["product"],
            update_fields=["answer", "not_in_catalogue", "answered_at"],
        )
        if product.unmatched_since is not None:
            # The condition keeps the product unmatched if its features changed during the search.
            Product.objects.filter(pk=product.pk, unmatched_since=product.unmatched_since).update(unmatched_since=None)
    if deciding.consider(product, result.model_name):
        saved = {match.candidate_id: match for match in product.matches.order_by()}
    candidates = [candidate for candidate in result.candidates if candidate.product.pk in existing]
    return replace(
        result, candidates=[replace(candidate, match=saved.get(candidate.product.pk)) for candidate in candidates]
    )


def find_and_save_matches(
    product_id: int,
    threshold: float | None = None,
    limit: int | None = None,
    category: str | None = None,
) -> SearchResult:
    """Find and save the matches of a product.

    Raises what ``find_matches`` and ``save_matches`` raise.
    """
    return save_matches(_candidates_of_product(product_id, threshold, limit, category))


def match_product(product_id: int, threshold: float | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """Match a product, save the matches and return them as dictionaries, best first.

    See ``serialize_candidate`` for the keys. Raises what ``find_matches`` raises.
    """
    result = find_and_save_matches(product_id, threshold, limit)
    return [serialize_candidate(candidate) for candidate in result.candidates]


def match_again(product_id: int) -> SearchResult:
    """Find and save the matches of a product as its last search did, so that no candidate is lost.

    A candidate needs the default threshold, or the lowest score that the last search kept. Raises what
    ``find_matches`` and ``save_matches`` raise.
    """
    product = Product.objects.get(pk=product_id)
    used = model_versions.answering()
    threshold, limit = with_defaults(None, None)
    if product.matches.exists():
        _kind, model, _head = version_in_use(used)
        # Those with its identifiers or its name are candidates whatever their score is.
        kept = product.matches.filter(model_name=model)
        kept = kept.exclude(candidate__in=find_candidates(product, record_of(product)))
        last = kept.order_by().aggregate(lowest=Min("similarity_score"), count=Count("pk"))
        threshold = min(threshold, last["lowest"]) if last["lowest"] is not None else threshold
        limit = max(limit, last["count"])
    return save_matches(_candidates_of(product, used, threshold, limit, None))


def match_products(
    product_ids: Iterable[int],
    threshold: float | None = None,
    limit: int | None = None,
    progress: Callable[[int, str | None], None] | None = None,
    *,
    as_before: bool = False,
) -> int:
    """Match these products and save the matches. Return how many were matched.

    ``as_before``: match each as its last search was, see ``match_again``.
    Calls ``progress(product_id, reason)`` for each. ``reason`` is None unless the product was deleted or has no usable
    features; the others are still matched.
    """
    matched = 0
    for product_id in product_ids:
        reason = None
        try:
            if as_before:
                match_again(product_id)
            else:
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
    """Return the new products to match: their features changed. Oldest change first."""
    return Product.objects.filter(unmatched_since__isnull=False, is_historical=False).order_by("unmatched_since")


def rounded(probability: float | None) -> float | None:
    """Return a probability as the API shows it."""
    return None if probability is None else round(probability, 4)


def serialize_candidate(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as the API shows it. An unsaved match has no ``match_id``."""
    return {
        "match_id": candidate.match.pk if candidate.match else None,
        "product_id": candidate.product.pk,
        "sku": candidate.product.sku,
        "name": candidate.product.name,
        "category": candidate.product.category,
        "similarity_score": round(candidate.score, 2),
        "rank": candidate.rank,
        "probability": rounded(candidate.probability),
        "evidence": [item.as_json() for item in candidate.evidence],
        "image_url": candidate.image.file.url,
        "review_status": candidate.match.review_status if candidate.match else Match.Status.PENDING.value,
    }


def covers_catalogue(*encoders: str) -> bool:
    """Return whether all catalogue images are embedded with these encoders.

    Failed images do not count.

    Until then search uses legacy features, which all images have. So no catalogue product is missing from the results
    while the catalogue is embedded with CLIP or with another model.
    """
    return encoders_are_complete(*encoders)


def version_in_use(version: Version | None = None) -> tuple[Kind, str, Head | None]:
    """Return the kind and model that searches compare now, and the head, if it is one.

    ``version``: the version that answers, if it is known already.
    """
    version = version or model_versions.answering()
    head, encoder = version.head, version.encoder.name
    if head is not None and all(covers_catalogue(model) for model in head.encoders):
        return HEAD, head.version, head
    if Feature.objects.filter(kind=CLIP, model_name=encoder).exists() and covers_catalogue(encoder):
        return CLIP, encoder, None
    return LEGACY, LEGACY_MODEL, None


def scored_candidates(product: Product, limit: int, version: Version) -> list[tuple[Product, float]]:
    """Return the most similar catalogue products with their scores, found with this version.

    Saves nothing and says nothing about probabilities. Raises FeaturesPendingError and SearchVectorError, and
    ClipUnavailableError if the product lacks vectors of a named encoder.
    """
    _kind, _model, found = _nearest(_features_of(product, version), version, limit, asked=product)
    return [(image.product, hit.score) for image, hit in found]


def with_defaults(threshold: float | None, limit: int | None) -> tuple[float, int]:
    """Return these bounds of a search. Those that are None come from the preferences."""
    return (
        default_threshold() if threshold is None else threshold,
        default_limit() if limit is None else limit,
    )


def search_product(
    product: Product, version: Version, threshold: float, limit: int, category: str | None = None
) -> SearchResult:
    """Return the catalogue products most similar to this one, without existing verdicts. Saves nothing.

    Raises what ``find_matches`` raises.
    """
    return search_features(_features_of(product, version), version, threshold, limit, category, asked=product)


def _candidates_of_product(
    product_id: int, threshold: float | None, limit: int | None, category: str | None
) -> SearchResult:
    product = Product.objects.get(pk=product_id)
    return _candidates_of(product, model_versions.answering(), *with_defaults(threshold, limit), category)


def _candidates_of(product: Product, used: Version, threshold: float, limit: int, category: str | None) -> SearchResult:
    result = search_product(product, used, threshold, limit, category)
    views = best_views(
        product.pk, [item.image.pk for item in result.candidates], result.feature_type, result.model_name
    )
    candidates = [replace(item, query_image_id=views.get(item.image.pk, (None, 0))[0]) for item in result.candidates]
    return replace(result, candidates=candidates)


def _features_of(product: Product, version: Version) -> list[Features]:
    models = [version.encoder.name, LEGACY_MODEL, *([version.head.version] if version.head is not None else [])]
    rows = Feature.objects.filter(product=product, model_name__in=models).order_by("id")
    features = [row.to_features() for row in rows if not row.is_damaged]
    if not features:
        if rows:
            raise _damaged_features()
        raise FeaturesPendingError(_missing_features_message(product))
    return features


def _attach_matches(result: SearchResult) -> SearchResult:
    """Return the result with the saved matches of its candidates."""
    assert result.product is not None  # noqa: S101  # nosec B101 # for the type checker
    matches = {match.candidate_id: match for match in result.product.matches.order_by()}
    candidates = [replace(candidate, match=matches.get(candidate.product.pk)) for candidate in result.candidates]
    return replace(result, candidates=candidates)


def _nearest(
    features: Sequence[Features],
    version: Version,
    limit: int,
    category: str | None = None,
    feature_type: Kind | None = None,
    asked: Product | None = None,
    without: Collection[int] = (),
    also: Collection[int] = (),
) -> tuple[Kind, str, list[tuple[ProductImage, Hit]]]:
    """Return the kind and model that were compared, and the images of the most similar products, best first.

    The products ``also`` are among the first CONSIDERED, after more similar ones.
    """
    used = _features_to_compare(features, version, feature_type)
    kind, model = used[0].kind, used[0].model_name
    vectors = np.stack([search_vector(item) for item in used])
    if not vectors.any(axis=1).all():
        raise _damaged_features()
    filters = Filters(
        historical=True, category=category or None, exclude_product=asked.pk if asked is not None else None
    )
    floor = version.head.score_floor if version.head is not None and kind == HEAD else None
    k = limit + len(without)
    while True:
        hits = index.search(vectors, k, kind=kind, model=model, filters=filters, score_floor=floor)
        found = _load_images(hits, category)
        images = [(image, hit) for image, hit in found if image.product_id not in without]
        # Rows may have been deleted since the search, and several hits may be one product. Search for more.
        if len(images) >= limit or len(hits) < k:
            break
        k = 2 * k
    missing = {*also} - {image.product_id for image, _hit in images[:CONSIDERED]} - {*without}
    if not missing:
        return kind, model, images[:limit]
    only = replace(filters, product_ids=frozenset(missing))
    hits = index.search(vectors, len(missing), kind=kind, model=model, filters=only, score_floor=floor)
    others = [(image, hit) for image, hit in images if image.product_id not in missing]
    place = CONSIDERED - len(hits)
    return kind, model, [*others[:place], *_load_images(hits, category), *others[place:]][:limit]


def _features_to_compare(
    features: Sequence[Features], version: Version, feature_type: Kind | None
) -> Sequence[Features]:
    """Return the query's features of one version: the head's, else CLIP's, else the legacy ones.

    Each must cover the catalogue, unless ``feature_type`` forces one, or the version is one named encoder.
    """
    head, encoder = version.head, version.encoder
    by_head = [item for item in features if head is not None and item.model_name == head.version]
    by_clip = [item for item in features if item.kind == CLIP and item.model_name == encoder.name]
    if feature_type is None and version.is_forced:
        feature_type = CLIP
    if feature_type is None:
        if head is not None and by_head and (not head.encoders or covers_catalogue(*head.encoders)):
            feature_type = HEAD
        else:
            feature_type = CLIP if by_clip and covers_catalogue(encoder.name) else LEGACY
    if feature_type == HEAD:
        if not by_head:
            raise ClipUnavailableError(_("The image lacks features that the learned head needs."))
        return by_head
    if feature_type == CLIP:
        if not by_clip:
            raise ClipUnavailableError(clip_status(encoder.source).reason or "The image was not embedded with CLIP.")
        return by_clip
    legacy = [item for item in features if item.model_name == LEGACY_MODEL]
    if not legacy:
        raise FeaturesPendingError(_("Legacy features are missing; `manage.py reindex --missing` computes them."))
    return legacy


def _load_images(hits: Sequence[Hit], category: str | None) -> list[tuple[ProductImage, Hit]]:
    """Return the images of those hits that still qualify, with their products, each product once.

    A hit on a new product that was confirmed counts for its catalogue product, with that product's first image. Makes
    one query, and two more if there are such hits.
    """
    qualifying = Q(product__is_historical=True)
    if category:
        qualifying &= Q(product__category=category)
    large = (f"product__{column}" for column in LARGE_COLUMNS)
    images = ProductImage.objects.select_related("product").defer(*large).filter(qualifying).order_by()
    by_id = {image.pk: image for image in images.filter(pk__in=[hit.image_id for hit in hits])}
    confirmed = [hit.product_id for hit in hits if hit.image_id not in by_id]
    candidates = shown_products(confirmed) if confirmed else {}
    first: dict[int, ProductImage] = {}
    if candidates:
        for image in images.filter(product__in=set(candidates.values())).order_by("-position", "-pk"):
            first[image.product_id] = image
    found: dict[int, tuple[ProductImage, Hit]] = {}
    for hit in hits:
        shown = by_id.get(hit.image_id) or first.get(candidates.get(hit.product_id, 0))
        if shown is not None:
            found.setdefault(shown.product_id, (shown, hit))
    return list(found.values())


def _damaged_features() -> SearchVectorError:
    return SearchVectorError(_("The stored features are damaged. `manage.py verify --fix` computes them again."))


def _missing_features_message(product: Product) -> str:
    states = set(product.images.values_list("state", flat=True))
    if not states:
        return _("Product %(id)s has no image. Add one, then try again.") % {"id": product.pk}
    if states == {ProductImage.State.FAILED}:
        return _("No image of product %(id)s could be embedded. See the reasons at its images, or add another.") % {
            "id": product.pk
        }
    return _("The images of product %(id)s are waiting to be embedded. Try again in a moment.") % {"id": product.pk}
