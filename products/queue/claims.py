"""Claim, release, retry and count the images of the queue, and pause the queue."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection
from django.db.models import Case, Count, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.utils import timezone

from core import clock
from core.outages import DATABASE_OUTAGES
from gpu.encoders import selection
from gpu.monitoring.status import images_per_second
from gpu.vectors import LEGACY_MODEL
from products.models import EmbeddingDay, Feature, ProductImage, QueueSwitch

logger = logging.getLogger(__name__)

State = ProductImage.State

RELEASE_RETRY_SECONDS = (0.1, 0.4, 1.0)  # after each failed attempt

UNCLAIMED = {"claim_token": None, "claimed_at": None}  # nosec B105 # no password


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch of images that only the holder of ``token`` may finish."""

    token: uuid.UUID
    images: list[ProductImage]


def claim_images(limit: int, image_ids: Sequence[int] | None = None) -> Claim | None:
    """Claim up to ``limit`` pending images, those that have waited longest first.

    Return None if none is pending or the queue is paused. The claim counts the attempt, so that an image that kills
    its worker is counted too. An image that was tried before is claimed alone, so that an image that fails its
    batch cannot fail the others twice. It waits behind the images that were pending when it was released.
    """
    if is_paused():
        return None
    pending = ProductImage.objects.filter(state=State.PENDING)
    if image_ids is not None:
        pending = pending.filter(pk__in=image_ids)
    while True:
        first = list(pending.order_by("updated_at", "id").values_list("pk", "attempts")[:limit])
        if not first:
            return None
        was_tried = first[0][1] > 0
        ids = [first[0][0]] if was_tried else [pk for pk, attempts in first if attempts == 0]
        token = uuid.uuid4()
        # The condition on the state decides between workers that read the same rows.
        claimed_count = ProductImage.objects.filter(pk__in=ids, state=State.PENDING).update(
            state=State.CLAIMED, claim_token=token, claimed_at=timezone.now(), attempts=F("attempts") + 1
        )
        if claimed_count:
            return Claim(token, list(ProductImage.objects.filter(pk__in=ids, claim_token=token).order_by("id")))


def record_failure(claimed: QuerySet[ProductImage], code: str, message: str) -> int:
    """Make images pending again, or failed after the last attempt. Return how many."""
    is_last_attempt = Q(attempts__gte=settings.MAX_ATTEMPTS)
    return claimed.update(
        state=Case(When(is_last_attempt, then=Value(State.FAILED)), default=Value(State.PENDING)),
        error_code=code,
        error_message=message[:500],
        updated_at=timezone.now(),
        **UNCLAIMED,
    )


def release(claim: Claim) -> None:
    """Release the claim's images and take back the attempt: they are not at fault.

    Retry a failing database three times. After that the images wait until the lease expires.
    """
    images = ProductImage.objects.filter(claim_token=claim.token)
    for pause in RELEASE_RETRY_SECONDS:
        try:
            images.update(state=State.PENDING, attempts=F("attempts") - 1, **UNCLAIMED)
            return
        except DATABASE_OUTAGES as error:
            connection.close()  # a broken connection would fail again
            logger.warning("Claimed images could not be released: %s", error)
        time.sleep(pause)


def has_pending() -> bool:
    """Return whether any image is pending and the queue is not paused."""
    return not is_paused() and ProductImage.objects.filter(state=State.PENDING).exists()


def pause_switch() -> QueueSwitch | None:
    """Return whether, since when and by whom the queue is paused. None: it never was."""
    return QueueSwitch.objects.select_related("changed_by").first()


def is_paused() -> bool:
    """Return whether the queue is paused. Every process checks this before each batch."""
    return QueueSwitch.objects.filter(paused=True).exists()


def set_paused(paused: bool, by: AbstractBaseUser) -> None:
    """Pause or resume the queue for all processes.

    Workers finish the images that they have claimed, and uploads are still accepted.
    """
    now = {"paused": paused, "changed_at": timezone.now(), "changed_by_id": by.pk}
    if not QueueSwitch.objects.exclude(paused=paused).update(**now):
        QueueSwitch.objects.get_or_create(defaults=now)


def stale_claims() -> QuerySet[ProductImage]:
    """Return the images whose lease has expired, because their worker is gone."""
    lease = timedelta(seconds=settings.CLAIM_LEASE_SECONDS)
    return ProductImage.objects.filter(clock.over("claimed_at", lease), state=State.CLAIMED)


def aggregate_state(states: Iterable[str]) -> str:
    """Return the worst of the states of a product's images, or "none" without images."""
    present = set(states)
    order = (State.FAILED, State.CLAIMED, State.PENDING, State.READY)
    return next((state for state in order if state in present), "none")


def release_stale_claims() -> int:
    """Release images with an expired lease, counting the attempt. Return their number."""
    released = record_failure(stale_claims(), "worker_lost", "The worker stopped while it embedded this image.")
    if released:
        logger.warning("Released %d images of workers that stopped or took longer than the lease", released)
    return released


def requeue(which: str, product_ids: Sequence[int] | None = None, image_ids: Sequence[int] | None = None) -> int:
    """Make images pending again. Return their number.

    Choose among all images, these images, or those of these products. ``which`` is one of:
    outdated: ready images that lack features of a wanted encoder that is available (fast, for the sweep);
    missing: also ready images without legacy features of the current version, or with features of earlier pixels;
    failed: images that failed their last attempt;
    all: every image that is not pending or claimed.
    Features stay searchable until new ones replace them.
    """
    finished = ProductImage.objects.filter(state__in=[State.READY, State.FAILED])
    if which == "all":
        images = finished
    elif which == "failed":
        images = finished.filter(state=State.FAILED)
    elif which in ("outdated", "missing"):
        stale = images_to_embed()
        if which == "missing":
            features = Feature.objects.filter(image=OuterRef("pk"))
            stale |= Q(~Exists(features.filter(model_name=LEGACY_MODEL)))
            stale |= Q(Exists(features.exclude(decoding=OuterRef("decoding"))))
        images = finished.filter(stale, state=State.READY)
    else:
        raise ValueError(f"which must be outdated, missing, failed or all, not {which!r}")
    if product_ids is not None:
        images = images.filter(product__in=product_ids)
    if image_ids is not None:
        images = images.filter(pk__in=image_ids)
    return images.update(
        state=State.PENDING, attempts=0, error_code="", error_message="", updated_at=timezone.now(), **UNCLAIMED
    )


# Values of ``embedded_with`` that this process has seen. A value says by itself which encoders it stands for.
_seen: set[str] = set()


def images_without_features_of(*encoders: str) -> Q:
    """Match embedded images that lack features of any of these encoders.

    May match too many images, until ``read_embedded_with`` has seen all values. The ranges between the values that name
    all encoders use the index. ``<>`` would read all rows.
    """
    complete = {selection.joined(encoders), *(v for v in _seen if set(encoders) <= set(selection.names_in(v)))}
    query, last = Q(), ""
    for value in sorted(complete):
        query |= Q(embedded_with__gt=last, embedded_with__lt=value)
        last = value
    return query | Q(embedded_with__gt=last)


def read_embedded_with() -> bool:
    """Read all values of ``embedded_with``, with one short query each. Return whether any is new to this process."""
    before, last = len(_seen), ""
    values = ProductImage.objects.order_by("embedded_with").values_list("embedded_with", flat=True)
    while (value := values.filter(embedded_with__gt=last).first()) is not None:
        _seen.add(value)
        last = value
    return len(_seen) > before


def encoders_are_complete(*encoders: str) -> bool:
    """Return whether all catalogue images have features of these encoders. Failed images do not count.

    Costs one short query if they have.
    """

    def is_lacking() -> bool:
        lacking = ProductImage.objects.filter(images_without_features_of(*encoders), product__is_historical=True)
        return lacking.exclude(state=State.FAILED).exists()

    return not is_lacking() or (read_embedded_with() and not is_lacking())


def images_to_embed() -> Q:
    """Match embedded images that lack features of an encoder that is wanted and available."""
    read_embedded_with()
    query = Q(pk__in=[])
    for encoder in selection.wanted():
        if encoder.is_available:
            query |= images_without_features_of(encoder.name)
    return query


def queue_counts() -> dict[str, int]:
    """Return the number of images in each state."""
    by_state = dict.fromkeys(State.values, 0)
    # Group by model too, so that an index alone answers the query.
    counts = ProductImage.objects.values_list("embedded_with", "state").annotate(n=Count("pk")).order_by()
    for _model, state, count in counts:
        by_state[state] += count
    return by_state


def failures_by_code() -> dict[str, int]:
    """Return the number of failed images by error code."""
    failed = ProductImage.objects.filter(state=State.FAILED)
    return dict(failed.values_list("error_code").annotate(n=Count("pk")).order_by("error_code"))


def queue_status() -> dict[str, float | None]:
    """Return the number of images by state, the rate, and the estimated time left.

    ``images_per_second`` is None before the first measurement. ``eta_seconds`` is None then and while paused.
    """
    by_state = queue_counts()
    rate = images_per_second()
    unfinished = by_state["pending"] + by_state["claimed"]
    eta = round(unfinished / rate, 1) if rate and not is_paused() else None
    return {**by_state, "images_per_second": rate, "eta_seconds": eta}


def count_embedded(count: int) -> None:
    """Add to today's number of embedded images."""
    today = EmbeddingDay.objects.filter(day=timezone.localdate())
    if not today.update(pictures=F("pictures") + count):
        EmbeddingDay.objects.bulk_create([EmbeddingDay(day=timezone.localdate())], ignore_conflicts=True)
        today.update(pictures=F("pictures") + count)


def embedded_by_day(since: date) -> dict[date, int]:
    """Return the number of embedded images by day. Days without any are missing."""
    return dict(EmbeddingDay.objects.filter(day__gte=since).values_list("day", "pictures"))
