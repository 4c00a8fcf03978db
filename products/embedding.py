"""The queue: claim pending pictures, turn them into features, store them. The database is the queue."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import Case, Count, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.dispatch import Signal
from django.utils import timezone

from gpu import pipeline
from gpu.clip import ClipUnavailableError, is_clip_available, model_id
from gpu.features import CLIP, LEGACY, LEGACY_MODEL, Features
from gpu.images import ImageProcessingError, read_file
from gpu.status import images_per_second
from products.models import Feature, Product, ProductImage

logger = logging.getLogger(__name__)

State = ProductImage.State

# Sent after the commit that stored features, with ``product_ids``: whoever answers questions listens.
features_stored = Signal()

POLL_SECONDS = 0.03  # how often a waiting upload looks whether the worker is done
NOT_CLAIMED = {"claim_token": None, "claimed_at": None}


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch of pictures that only the holder of ``token`` may finish."""

    token: uuid.UUID
    images: list[ProductImage]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch came to: ids of pictures by result."""

    ready: list[int]
    failed: list[int]
    retried: list[int]

    @property
    def finished(self) -> int:
        return len(self.ready) + len(self.failed)


def claim(limit: int, image_ids: Sequence[int] | None = None) -> Claim | None:
    """Claim up to ``limit`` pending pictures, oldest first; None when there is nothing to do.

    Counting the attempt is part of the claim, so that a picture which kills its worker is counted all the
    same. A picture that was tried before is claimed alone: if it is the poisonous one of its batch, it
    takes nobody with it.
    """
    pending = ProductImage.objects.filter(state=State.PENDING)
    if image_ids is not None:
        pending = pending.filter(pk__in=image_ids)
    while True:
        ids = list(pending.filter(attempts=0).order_by("id").values_list("pk", flat=True)[:limit])
        if not ids:
            ids = list(pending.filter(attempts__gt=0).order_by("attempts", "id").values_list("pk", flat=True)[:1])
        if not ids:
            return None
        token = uuid.uuid4()
        # The condition on the state decides between workers that looked at the same rows.
        won = ProductImage.objects.filter(pk__in=ids, state=State.PENDING).update(
            state=State.CLAIMED, claim_token=token, claimed_at=timezone.now(), attempts=F("attempts") + 1
        )
        if won:
            return Claim(token, list(ProductImage.objects.filter(pk__in=ids, claim_token=token).order_by("id")))


def embed(batch: Claim, *, announce: bool = True, afresh: bool = False) -> Outcome:
    """Compute and store the features of a claimed batch. No transaction is open while a model runs.

    Legacy features that are there already are computed again only with ``afresh``.
    Whatever interrupts it (also Ctrl-C or SystemExit), the claim does not stay: an interruption from
    outside gives the attempt back, a failure of the model counts it.
    """
    try:
        outcome = _store(batch, _extract(batch.images, afresh))
    except BaseException as interruption:
        claimed = ProductImage.objects.filter(claim_token=batch.token)
        if isinstance(interruption, Exception):
            _give_back(claimed, "embedding_failed", f"Embedding failed: {interruption}")
        else:
            claimed.update(state=State.PENDING, attempts=F("attempts") - 1, **NOT_CLAIMED)
        raise
    if outcome.ready and announce:
        product_ids = sorted({image.product_id for image in batch.images if image.pk in set(outcome.ready)})
        features_stored.send(sender=ProductImage, product_ids=product_ids)
    return outcome


def embed_pending(
    image_ids: Sequence[int] | None = None,
    *,
    max_batches: int | None = None,
    batch_size: int | None = None,
    announce: bool = True,
    afresh: bool = False,
    progress: Callable[[Outcome], None] | None = None,
) -> int:
    """Claim and embed in this process until nothing is pending; answers how many pictures were finished.

    A batch on which the model fails is logged and goes on picture by picture, up to the limit of attempts.
    ``announce`` False leaves ``features_stored`` unsent, for whoever matches all new products at the end.
    ``afresh`` computes legacy features anew. What ``progress`` raises stops the work after a whole batch.
    """
    finished = batches = 0
    limit = batch_size or pipeline.preferred_batch_size()
    while (max_batches is None or batches < max_batches) and (batch := claim(limit, image_ids)) is not None:
        batches += 1
        try:
            outcome = embed(batch, announce=announce, afresh=afresh)
        except Exception:  # the outer boundary of the work on one batch: its pictures are settled, the rest goes on
            ids = {image.pk for image in batch.images}
            logger.exception("Embedding failed for pictures %s", sorted(ids))
            failed = set(ProductImage.objects.filter(pk__in=ids, state=State.FAILED).values_list("pk", flat=True))
            outcome = Outcome(ready=[], failed=sorted(failed), retried=sorted(ids - failed))
        finished += outcome.finished
        if progress is not None:
            progress(outcome)
    return finished


def anything_pending() -> bool:
    """Whether any picture waits to be embedded."""
    return ProductImage.objects.filter(state=State.PENDING).exists()


def stale_claims() -> QuerySet[ProductImage]:
    """Pictures that workers claimed longer ago than the lease: those workers are gone."""
    deadline = timezone.now() - timedelta(seconds=settings.CLAIM_LEASE_SECONDS)
    return ProductImage.objects.filter(state=State.CLAIMED, claimed_at__lt=deadline)


def release_stale_claims() -> int:
    """Give back the pictures of workers that are gone; answers how many."""
    return _give_back(stale_claims(), "worker_lost", "The worker stopped while it worked on this picture.")


def requeue(which: str, product_ids: Sequence[int] | None = None) -> int:
    """Make pictures (of these products, or any) pending again; answers how many.

    Features stay searchable until new ones replace them.

    ``outdated``: ready pictures that the current CLIP model has not seen, where CLIP can be had here (quick,
    for the sweep); ``missing``: those and ready pictures without legacy features of the current version;
    ``failed``: those given up on; ``all``: every picture that no worker holds.
    """
    finished = ProductImage.objects.filter(state__in=[State.READY, State.FAILED])
    if which == "all":
        images = finished
    elif which == "failed":
        images = finished.filter(state=State.FAILED)
    elif which in ("outdated", "missing"):
        stale = without_features_of(model_id()) if is_clip_available() else Q(pk__in=[])
        if which == "missing":
            stale |= Q(~Exists(Feature.objects.filter(image=OuterRef("pk"), model_name=LEGACY_MODEL)))
        images = finished.filter(stale, state=State.READY)
    else:
        raise ValueError(f"which must be outdated, missing, failed or all, not {which!r}")
    if product_ids is not None:
        images = images.filter(product__in=product_ids)
    return images.update(
        state=State.PENDING, attempts=0, error_code="", error_message="", updated_at=timezone.now(), **NOT_CLAIMED
    )


def without_features_of(model_name: str) -> Q:
    """Pictures that have features, but not this model's: two ranges of an index, since ``<>`` would read it all."""
    return Q(embedded_with__gt="", embedded_with__lt=model_name) | Q(embedded_with__gt=model_name)


def queue_counts() -> dict[str, int]:
    """Number of pictures in each state."""
    counts = dict.fromkeys(State.values, 0)
    counts |= dict(ProductImage.objects.values_list("state").annotate(n=Count("pk")).order_by())
    return counts


def failures_by_code() -> dict[str, int]:
    """Number of failed pictures by the code of their error."""
    failed = ProductImage.objects.filter(state=State.FAILED)
    return dict(failed.values_list("error_code").annotate(n=Count("pk")).order_by("error_code"))


def queue_status() -> dict[str, float | None]:
    """Pictures in each state, the measured rate (images/s, None before any) and the seconds that the rest will take."""
    counts = queue_counts()
    rate = images_per_second()
    waiting = counts["pending"] + counts["claimed"]
    return {**counts, "images_per_second": rate, "eta_seconds": round(waiting / rate, 1) if rate else None}


def wait_for_features(image_ids: Sequence[int], seconds: float) -> str | None:
    """Wait until all these pictures are ready; their feature type, or None when they are not after ``seconds``.

    With a broker the worker is told that somebody waits, so that it takes these pictures first.
    """
    from products.tasks import wake

    deadline = time.monotonic() + seconds
    images = ProductImage.objects.filter(pk__in=image_ids)
    if settings.HAS_BROKER and seconds > 0 and not wake(image_ids, urgent=True):
        deadline = time.monotonic()  # nobody heard: there is nothing to wait for
    while True:
        rows = list(images.values_list("state", "embedded_with"))
        states = {state for state, _ in rows}
        if states == {State.READY}:
            return LEGACY if LEGACY_MODEL in {name for _, name in rows} else CLIP
        if states <= {State.READY, State.FAILED} or time.monotonic() >= deadline:
            return None
        time.sleep(POLL_SECONDS)


def get_or_extract_features(product_id: int, image_path: str | Path) -> np.ndarray:
    """The colour features of a product: the CLIP embedding (dim,) float32, or the legacy colour histogram (256,).

    Comes from the database where the product has features; otherwise the picture at ``image_path`` becomes
    a view of the product and is embedded now. Raises Product.DoesNotExist and ImageProcessingError.
    """
    from products.intake import Upload, add_views

    product = Product.objects.get(pk=product_id)
    stored = best_features(product.pk)
    if not stored:
        path = Path(image_path)
        added = add_views(product, [Upload(read_file(path), path.name)])
        ids = [image.pk for image in added.images]
        embed_pending(ids)
        wait_for_features(ids, settings.UPLOAD_WAIT_MAX_SECONDS)  # where a worker was quicker to claim it
        stored = best_features(product.pk)
        if not stored:
            added.images[0].refresh_from_db()
            raise ImageProcessingError(added.images[0].error_code, added.images[0].error_message)
    return stored[0].color


def best_features(product_id: int) -> list[Features]:
    """The product's features of the best kind it has: the current CLIP model's, else the legacy ones."""
    rows = list(Feature.objects.filter(product_id=product_id).order_by("image__position", "id"))
    wanted = [row for row in rows if row.kind == CLIP and row.model_name == model_id()]
    wanted = wanted or [row for row in rows if row.model_name == LEGACY_MODEL]
    return [row.to_features() for row in wanted]


Result = pipeline.PictureFeatures | ImageProcessingError


def _extract(images: Sequence[ProductImage], afresh: bool) -> list[Result]:
    """Features of each picture, in order. Falls back to legacy features alone when CLIP cannot be loaded."""
    present = Feature.objects.filter(image__in=images, model_name=LEGACY_MODEL)
    has_legacy = set() if afresh else set(present.values_list("image_id", flat=True))

    def jobs(clip: bool) -> list[pipeline.PictureJob]:
        return [
            pipeline.PictureJob(path=Path(image.file.path), clip=clip, legacy=image.pk not in has_legacy)
            for image in images
        ]

    if is_clip_available():
        try:
            return list(pipeline.run(jobs(clip=True)))
        except ClipUnavailableError as error:
            logger.warning("CLIP cannot be used, legacy features instead: %s", error)
    return list(pipeline.run(jobs(clip=False)))


def _store(batch: Claim, results: Sequence[Result]) -> Outcome:
    """Store a batch in one short transaction, without the pictures that were deleted or claimed anew meanwhile."""
    errors: dict[int, ImageProcessingError] = {}
    features: list[Feature] = []
    embedded_with: dict[str, list[int]] = {}
    now = timezone.now()
    with transaction.atomic():
        mine = set(
            ProductImage.objects.select_for_update()
            .filter(pk__in=[image.pk for image in batch.images], claim_token=batch.token)
            .values_list("pk", flat=True)
        )
        for image, result in zip(batch.images, results, strict=True):
            if image.pk not in mine:
                continue
            if isinstance(result, ImageProcessingError):
                errors[image.pk] = result
                continue
            features += [
                Feature(
                    image=image, product_id=image.product_id, created_at=now, updated_at=now, **Feature.columns(part)
                )
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
                **NOT_CLAIMED,
            )
        Product.objects.filter(pk__in={feature.product_id for feature in features}, is_historical=False).update(
            unmatched_since=now
        )
    ready = [pk for ids in embedded_with.values() for pk in ids]
    requests = {image.pk: image.request_id for image in batch.images}
    if ready:
        of_these = {requests[pk] for pk in ready} - {""}
        logger.info("Embedded pictures %s", ready, extra={"request_ids": sorted(of_these)})
    for pk, error in errors.items():
        extra = {"request_id": requests[pk]}
        logger.warning("Picture %s: %s (%s)", pk, error.message, error.code, extra=extra)
        _give_back(ProductImage.objects.filter(pk=pk, claim_token=batch.token), error.code, error.message)
    failed = set(ProductImage.objects.filter(pk__in=errors, state=State.FAILED).values_list("pk", flat=True))
    return Outcome(ready=ready, failed=sorted(failed), retried=sorted(set(errors) - failed))


def _give_back(claimed: QuerySet[ProductImage], code: str, message: str) -> int:
    """Make claimed pictures pending for another attempt, or failed when they had their last; answers how many."""
    spent = Q(attempts__gte=settings.MAX_ATTEMPTS)
    return claimed.update(
        state=Case(When(spent, then=Value(State.FAILED)), default=Value(State.PENDING)),
        error_code=code,
        error_message=message[:500],
        updated_at=timezone.now(),
        **NOT_CLAIMED,
    )
