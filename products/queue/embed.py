"""Compute the features of claimed images and store them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from django.db import transaction
from django.db.models import F
from django.dispatch import Signal
from django.utils import timezone

from core.outages import DATABASE_OUTAGES
from gpu.encoders import registry, selection
from gpu.encoders.registry import ClipUnavailableError
from gpu.encoders.selection import Selected
from gpu.imaging.errors import ImageProcessingError
from gpu.pipeline import run
from gpu.pipeline.preprocess_image import EmbedRequest
from gpu.timings import stage
from gpu.vectors import CLIP, LEGACY_MODEL, Features
from products import model_versions
from products.models import Feature, Product, ProductImage
from products.queue.claims import UNCLAIMED, Claim, State, claim_images, count_embedded, record_failure, release

logger = logging.getLogger(__name__)

# Sent with ``product_ids`` after features are committed, so that matching can update its index and matches.
features_stored = Signal()


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The ids of a batch's images by result."""

    ready: list[int]
    failed: list[int]
    retried: list[int]

    @property
    def finished(self) -> int:
        return len(self.ready) + len(self.failed)


def embed_batch(claim: Claim, *, send_signal: bool = True, recompute: bool = False) -> BatchOutcome:
    """Compute and store the features of a claimed batch.

    No transaction is open while a model runs. ``recompute`` also computes features that an image already has.
    Any interruption, even Ctrl-C or SystemExit, ends the claim. An external cause such as a full disk counts no
    attempt. A failing model does.
    """
    try:
        outcome = _store(claim, _extract(claim.images, recompute))
    except Exception as error:
        if isinstance(error, DATABASE_OUTAGES):
            release(claim)
        else:
            claimed = ProductImage.objects.filter(claim_token=claim.token)
            record_failure(claimed, "embedding_failed", f"Embedding failed: {error}")
        raise
    except BaseException:
        release(claim)
        raise
    if outcome.ready and send_signal:
        product_ids = sorted({image.product_id for image in claim.images if image.pk in set(outcome.ready)})
        features_stored.send(sender=ProductImage, product_ids=product_ids)
    return outcome


def embed_pending(
    image_ids: Sequence[int] | None = None,
    *,
    seconds: float | None = None,
    batch_size: int | None = None,
    send_signal: bool = True,
    recompute: bool = False,
    progress: Callable[[BatchOutcome], None] | None = None,
) -> int:
    """Claim and embed images in this process. Return the number of finished images.

    Continue until none is pending. If the model fails on a batch, its images are tried again one by one, up to the
    limit of attempts. ``send_signal=False`` does not send ``features_stored``, for callers that match all new
    products at the end. ``recompute`` also computes features that an image already has. ``progress`` is called
    after each batch and may raise to stop. After ``seconds``, no further batch begins. Raises
    one of DATABASE_OUTAGES if the database cannot be written, and then the images stay pending.
    """
    finished = 0
    limit = batch_size or run.preferred_batch_size()
    deadline = None if seconds is None else time.monotonic() + seconds
    while (claim := claim_images(limit, image_ids)) is not None:
        try:
            outcome = embed_batch(claim, send_signal=send_signal, recompute=recompute)
        except DATABASE_OUTAGES:
            raise  # The next batch would fail, too.
        except Exception:  # One batch must not stop the others. ``embed_batch`` has recorded the failure.
            ids = {image.pk for image in claim.images}
            logger.exception("Embedding failed for images %s", sorted(ids))
            failed = set(ProductImage.objects.filter(pk__in=ids, state=State.FAILED).values_list("pk", flat=True))
            outcome = BatchOutcome(ready=[], failed=sorted(failed), retried=sorted(ids - failed))
        finished += outcome.finished
        if progress is not None:
            progress(outcome)
        if deadline is not None and time.monotonic() >= deadline:
            break
    return finished


def best_features(product_id: int) -> list[Features]:
    """Return the product's features of the encoder in use, else the legacy ones. Leave out damaged ones."""
    stored = Feature.objects.filter(product_id=product_id).order_by("image__position", "id")
    rows = [row for row in stored if not row.is_damaged]
    encoder = selection.in_use().name
    best = [row for row in rows if row.kind == CLIP and row.model_name == encoder]
    best = best or [row for row in rows if row.model_name == LEGACY_MODEL]
    return [row.to_features() for row in best]


Result = run.ImageFeatures | ImageProcessingError


@dataclass(frozen=True, slots=True)
class _Extracted:
    """One result for each image in order, the names of the wanted encoders, and the encoders that computed vectors."""

    results: list[Result]
    wanted: set[str]
    used: list[Selected]


def _extract(images: Sequence[ProductImage], recompute: bool) -> _Extracted:
    """Compute the features that the images lack: the vectors of all wanted encoders, and the legacy ones.

    Each encoder is one run of the pipeline. An encoder that cannot be loaded is left out. So is one in the shadow that
    fails on any image, because new images must not wait for it.
    """
    wanted = selection.wanted()
    of_these_pixels = Feature.objects.filter(image__in=images, decoding=F("image__decoding"))
    present = set(of_these_pixels.values_list("image_id", "kind", "model_name"))
    has_legacy = {image for image, _, name in present if name == LEGACY_MODEL and not recompute}
    results: list[Result] = [run.ImageFeatures((), None) for _ in images]
    legacy_pending, used = True, []
    for encoder in wanted:
        lacking = [recompute or (image.pk, CLIP, encoder.name) not in present for image in images]
        if not any(lacking) or not encoder.is_available:
            continue
        requests = [
            EmbedRequest(Path(image.file.path), clip=clip, legacy=legacy_pending and image.pk not in has_legacy)
            for image, clip in zip(images, lacking, strict=True)
        ]
        is_shadow = encoder is not wanted[0]
        try:
            computed = list(run.run_pipeline(requests, model=encoder.source))
        except ClipUnavailableError as error:
            logger.warning("%s cannot be loaded, so images get no vector of it: %s", encoder.name, error)
            continue
        except Exception as error:  # a model from outside can fail in any way
            if not is_shadow:
                raise
            registry.reject(encoder.source, f"It failed on images: {error}")
            continue
        unusable = [result for result in computed if _is_unusable(result)]
        if is_shadow and unusable:
            registry.reject(encoder.source, unusable[0].message)
            continue
        results = [_merged(*pair) for pair in zip(results, computed, strict=True)]
        legacy_pending = False
        used.append(encoder)
    if legacy_pending:
        requests = [
            EmbedRequest(Path(image.file.path), clip=False, legacy=image.pk not in has_legacy) for image in images
        ]
        results = [_merged(*pair) for pair in zip(results, run.run_pipeline(requests), strict=True)]
    return _Extracted(results, {encoder.name for encoder in wanted}, used)


def _is_unusable(result: Result) -> TypeGuard[ImageProcessingError]:
    return isinstance(result, ImageProcessingError) and result.code == "embedding_failed"


def _merged(first: Result, second: Result) -> Result:
    """Return the features of both runs, or the first error."""
    if isinstance(first, ImageProcessingError):
        return first
    if isinstance(second, ImageProcessingError):
        return second
    return run.ImageFeatures((*first.embeddings, *second.embeddings), first.legacy or second.legacy)


def _store(claim: Claim, extracted: _Extracted) -> BatchOutcome:
    """Store a batch in one short transaction.

    Skip images that were deleted or claimed by another worker.
    """
    with stage("store"), transaction.atomic():
        still_claimed = dict(
            ProductImage.objects.select_for_update()
            .filter(pk__in=[image.pk for image in claim.images], claim_token=claim.token)
            .order_by("pk")  # Lock images in the same order everywhere, against deadlocks.
            .values_list("pk", "product")
        )
        errors: dict[int, ImageProcessingError] = {}
        embedded: list[tuple[ProductImage, run.ImageFeatures]] = []
        for image, result in zip(claim.images, extracted.results, strict=True):
            if image.pk not in still_claimed:
                continue
            image.product_id = still_claimed[image.pk]  # another one, if its product was merged since the claim
            if isinstance(result, ImageProcessingError):
                errors[image.pk] = result
            else:
                embedded.append((image, result))
        if embedded:
            selection.remember(extracted.used)
            _write(embedded, extracted.wanted)
            count_embedded(len(embedded))
    ready = [image.pk for image, _ in embedded]
    request_ids = {image.pk: image.request_id for image in claim.images}
    if ready:
        ready_requests = {request_ids[pk] for pk in ready} - {""}
        logger.info("Embedded images %s", ready, extra={"request_ids": sorted(ready_requests)})
    if dropped := sorted({image.pk for image in claim.images} - still_claimed.keys()):
        logger.warning("Images %s were deleted or given to another worker. Their features were not stored", dropped)
    for pk, error in errors.items():
        extra = {"request_id": request_ids[pk]}
        logger.warning("Image %s: %s (%s)", pk, error.message, error.code, extra=extra)
        record_failure(ProductImage.objects.filter(pk=pk, claim_token=claim.token), error.code, error.message)
    failed = set(ProductImage.objects.filter(pk__in=errors, state=State.FAILED).values_list("pk", flat=True))
    return BatchOutcome(ready=ready, failed=sorted(failed), retried=sorted(set(errors) - failed))


def _write(embedded: Sequence[tuple[ProductImage, run.ImageFeatures]], wanted: set[str]) -> None:
    """Write features, make the images ready, and queue the products for matching."""
    now = timezone.now()
    features: list[Feature] = []
    for image, result in embedded:
        features += [
            Feature(
                image=image,
                product_id=image.product_id,
                decoding=image.decoding,
                created_at=now,
                updated_at=now,
                **Feature.columns(part),
            )
            for part in (*result.embeddings, result.legacy)
            if part is not None
        ]
    features += model_versions.head_rows(features)
    Feature.objects.bulk_create(
        features,
        update_conflicts=True,
        unique_fields=["image", "kind", "model_name"],
        update_fields=[
            "dim", "color_features", "shape_features", "texture_features", "checksum", "decoding", "updated_at",
        ],
    )  # fmt: skip
    # What other models made of earlier pixels must not be compared any more.
    Feature.objects.filter(image__in=[image for image, _ in embedded]).exclude(decoding=F("image__decoding")).delete()
    for value, ids in _embedded_with([image for image, _ in embedded], wanted).items():
        ProductImage.objects.filter(pk__in=ids).update(
            state=State.READY,
            embedded_with=value,
            error_code="",
            error_message="",
            attempts=0,
            updated_at=now,
            **UNCLAIMED,
        )
    Product.objects.filter(pk__in={feature.product_id for feature in features}).update(unmatched_since=now)


def _embedded_with(images: Sequence[ProductImage], wanted: set[str]) -> dict[str, list[int]]:
    """Return the images by their new value of ``embedded_with``: the wanted encoders whose vectors are stored.

    An image keeps the names of older encoders until it has a vector of a wanted one.
    """
    stored: dict[int, set[str]] = {image.pk: set() for image in images}
    rows = Feature.objects.filter(image__in=images, kind=CLIP, model_name__in=wanted)
    for image_id, name in rows.values_list("image_id", "model_name"):
        stored[image_id].add(name)
    by_value: dict[str, list[int]] = {}
    for image in images:
        older = set(selection.names_in(image.embedded_with)) - wanted
        value = selection.joined(stored[image.pk] or older) or LEGACY_MODEL
        by_value.setdefault(value, []).append(image.pk)
    return by_value
