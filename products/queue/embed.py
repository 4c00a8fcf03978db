"""Embedding: turn claimed pictures into features and store them, here or by a worker that is waited for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.db import OperationalError, transaction
from django.dispatch import Signal
from django.utils import timezone

from gpu.encoders.registry import ClipUnavailableError, is_clip_available
from gpu.encoders.weights import model_id
from gpu.imaging.errors import ImageProcessingError
from gpu.pipeline import run
from gpu.pipeline.preprocess_image import EmbedRequest
from gpu.timings import stage
from gpu.vectors import CLIP, LEGACY_MODEL, Features
from products.models import Feature, Product, ProductImage
from products.queue.claims import UNCLAIMED, Claim, State, claim_images, count_embedded, record_failure, release

logger = logging.getLogger(__name__)

# Sent after the commit that stored features, with ``product_ids``: whoever answers questions listens.
features_stored = Signal()


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What one batch came to: ids of pictures by result."""

    ready: list[int]
    failed: list[int]
    retried: list[int]

    @property
    def finished(self) -> int:
        return len(self.ready) + len(self.failed)


def embed_batch(batch: Claim, *, send_signal: bool = True, recompute: bool = False) -> BatchOutcome:
    """Compute and store the features of a claimed batch. No transaction is open while a model runs.

    Legacy features that are there already are computed again only with ``afresh``.
    Whatever interrupts it (also Ctrl-C or SystemExit), the claim does not stay: an interruption from outside,
    such as a full disk, gives the attempt back; a failure of the model counts it.
    """
    try:
        outcome = _store(batch, _extract(batch.images, recompute))
    except Exception as failure:
        if isinstance(failure, OperationalError):
            release(batch)
        else:
            claimed = ProductImage.objects.filter(claim_token=batch.token)
            record_failure(claimed, "embedding_failed", f"Embedding failed: {failure}")
        raise
    except BaseException:
        release(batch)
        raise
    if outcome.ready and send_signal:
        product_ids = sorted({image.product_id for image in batch.images if image.pk in set(outcome.ready)})
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
    """Claim and embed in this process until nothing is pending; answers how many pictures were finished.

    A batch on which the model fails is logged and goes on picture by picture, up to the limit of attempts.
    ``send_signal`` False leaves ``features_stored`` unsent, for whoever matches all new products at the end.
    ``afresh`` computes legacy features anew. What ``progress`` raises stops the work after a whole batch;
    ``seconds`` is how long further batches are begun. Raises django.db.OperationalError where the
    database takes no writes: then the pictures just wait.
    """
    finished = 0
    limit = batch_size or run.preferred_batch_size()
    deadline = None if seconds is None else time.monotonic() + seconds
    while (batch := claim_images(limit, image_ids)) is not None:
        try:
            outcome = embed_batch(batch, send_signal=send_signal, recompute=recompute)
        except OperationalError:
            raise  # the next batch would fare no better
        except Exception:  # the outer boundary of the work on one batch: its pictures are settled, the rest goes on
            ids = {image.pk for image in batch.images}
            logger.exception("Embedding failed for pictures %s", sorted(ids))
            failed = set(ProductImage.objects.filter(pk__in=ids, state=State.FAILED).values_list("pk", flat=True))
            outcome = BatchOutcome(ready=[], failed=sorted(failed), retried=sorted(ids - failed))
        finished += outcome.finished
        if progress is not None:
            progress(outcome)
        if deadline is not None and time.monotonic() >= deadline:
            break
    return finished


def best_features(product_id: int) -> list[Features]:
    """The product's features of the best kind it has: the current CLIP model's, else the legacy ones."""
    rows = list(Feature.objects.filter(product_id=product_id).order_by("image__position", "id"))
    wanted = [row for row in rows if row.kind == CLIP and row.model_name == model_id()]
    wanted = wanted or [row for row in rows if row.model_name == LEGACY_MODEL]
    return [row.to_features() for row in wanted]


Result = run.ImageFeatures | ImageProcessingError


def _extract(images: Sequence[ProductImage], recompute: bool) -> list[Result]:
    """Features of each picture, in order. Falls back to legacy features alone when CLIP cannot be loaded."""
    present = Feature.objects.filter(image__in=images, model_name=LEGACY_MODEL)
    has_legacy = set() if recompute else set(present.values_list("image_id", flat=True))

    def jobs(clip: bool) -> list[EmbedRequest]:
        return [
            EmbedRequest(path=Path(image.file.path), clip=clip, legacy=image.pk not in has_legacy) for image in images
        ]

    if is_clip_available():
        try:
            return list(run.run_pipeline(jobs(clip=True)))
        except ClipUnavailableError as error:
            logger.warning("CLIP cannot be used, legacy features instead: %s", error)
    return list(run.run_pipeline(jobs(clip=False)))


def _store(batch: Claim, results: Sequence[Result]) -> BatchOutcome:
    """Store a batch in one short transaction, without the pictures that were deleted or claimed anew meanwhile."""
    with stage("store"), transaction.atomic():
        mine = set(
            ProductImage.objects.select_for_update()
            .filter(pk__in=[image.pk for image in batch.images], claim_token=batch.token)
            .order_by("pk")  # as everybody who locks pictures
            .values_list("pk", flat=True)
        )
        errors: dict[int, ImageProcessingError] = {}
        embedded: list[tuple[ProductImage, run.ImageFeatures]] = []
        for image, result in zip(batch.images, results, strict=True):
            if image.pk not in mine:
                continue
            if isinstance(result, ImageProcessingError):
                errors[image.pk] = result
            else:
                embedded.append((image, result))
        if embedded:
            _write(embedded)
            count_embedded(len(embedded))
    ready = [image.pk for image, _ in embedded]
    requests = {image.pk: image.request_id for image in batch.images}
    if ready:
        of_these = {requests[pk] for pk in ready} - {""}
        logger.info("Embedded pictures %s", ready, extra={"request_ids": sorted(of_these)})
    if dropped := sorted({image.pk for image in batch.images} - mine):
        logger.warning("Pictures %s were deleted or given to another worker meanwhile; nothing was stored", dropped)
    for pk, error in errors.items():
        extra = {"request_id": requests[pk]}
        logger.warning("Picture %s: %s (%s)", pk, error.message, error.code, extra=extra)
        record_failure(ProductImage.objects.filter(pk=pk, claim_token=batch.token), error.code, error.message)
    failed = set(ProductImage.objects.filter(pk__in=errors, state=State.FAILED).values_list("pk", flat=True))
    return BatchOutcome(ready=ready, failed=sorted(failed), retried=sorted(set(errors) - failed))


def _write(embedded: Sequence[tuple[ProductImage, run.ImageFeatures]]) -> None:
    """Write the features, make the pictures ready and their new products unmatched, within the caller's transaction."""
    now = timezone.now()
    features: list[Feature] = []
    embedded_with: dict[str, list[int]] = {}
    for image, result in embedded:
        features += [
            Feature(image=image, product_id=image.product_id, created_at=now, updated_at=now, **Feature.columns(part))
            for part in (result.clip, result.legacy)
            if part is not None
        ]
        # A picture that keeps an older CLIP embedding keeps its name until a newer one replaces it.
        name = result.clip.model_name if result.clip else image.embedded_with or LEGACY_MODEL
        embedded_with.setdefault(name, []).append(image.pk)
    Feature.objects.bulk_create(
        features,
        update_conflicts=True,
        unique_fields=["image", "kind", "model_name"],
        update_fields=["dim", "color_features", "shape_features", "texture_features", "updated_at"],
    )
    for name, ids in embedded_with.items():
        ProductImage.objects.filter(pk__in=ids).update(
            state=State.READY,
            embedded_with=name,
            error_code="",
            error_message="",
            attempts=0,
            updated_at=now,
            **UNCLAIMED,
        )
    Product.objects.filter(pk__in={feature.product_id for feature in features}, is_historical=False).update(
        unmatched_since=now
    )
