"""The queue: which pictures wait, who holds them, how often each was tried. The database is the queue."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import OperationalError
from django.db.models import Case, Count, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.utils import timezone

from gpu.encoders.registry import is_clip_available
from gpu.encoders.weights import model_id
from gpu.monitoring.status import images_per_second
from gpu.vectors import LEGACY_MODEL
from products.models import EmbeddingDay, Feature, ProductImage, QueueSwitch

logger = logging.getLogger(__name__)

State = ProductImage.State

RELEASE_RETRY_SECONDS = (0.1, 0.4, 1.0)  # seconds after each attempt that failed

UNCLAIMED = {"claim_token": None, "claimed_at": None}


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch of pictures that only the holder of ``token`` may finish."""

    token: uuid.UUID
    images: list[ProductImage]


def claim_images(limit: int, image_ids: Sequence[int] | None = None) -> Claim | None:
    """Claim up to ``limit`` pending pictures, those that wait longest first; None for nothing to do or a paused queue.

    Counting the attempt is part of the claim, so that a picture which kills its worker is counted all the
    same. A picture that was tried before is claimed alone: if it is the poisonous one of its batch, it
    takes nobody with it. Its new turn comes after those that waited when it was given back, and before later ones.
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
        tried = first[0][1] > 0
        ids = [first[0][0]] if tried else [pk for pk, attempts in first if attempts == 0]
        token = uuid.uuid4()
        # The condition on the state decides between workers that looked at the same rows.
        won = ProductImage.objects.filter(pk__in=ids, state=State.PENDING).update(
            state=State.CLAIMED, claim_token=token, claimed_at=timezone.now(), attempts=F("attempts") + 1
        )
        if won:
            return Claim(token, list(ProductImage.objects.filter(pk__in=ids, claim_token=token).order_by("id")))


def record_failure(claimed: QuerySet[ProductImage], code: str, message: str) -> int:
    """Make claimed pictures pending for another attempt, or failed when they had their last; answers how many."""
    spent = Q(attempts__gte=settings.MAX_ATTEMPTS)
    return claimed.update(
        state=Case(When(spent, then=Value(State.FAILED)), default=Value(State.PENDING)),
        error_code=code,
        error_message=message[:500],
        updated_at=timezone.now(),
        **UNCLAIMED,
    )


def release(claimed: Claim) -> None:
    """Give back what is left of a claim as if it had never been: its pictures are not at fault.

    A database that fails is asked again for a moment; after that the pictures wait for the end of the lease.
    """
    images = ProductImage.objects.filter(claim_token=claimed.token)
    for pause in RELEASE_RETRY_SECONDS:
        try:
            images.update(state=State.PENDING, attempts=F("attempts") - 1, **UNCLAIMED)
            return
        except OperationalError as error:
            logger.warning("Claimed pictures could not be given back: %s", error)
        time.sleep(pause)


def has_pending() -> bool:
    """Whether any picture waits to be embedded and may be."""
    return not is_paused() and ProductImage.objects.filter(state=State.PENDING).exists()


def pause_switch() -> QueueSwitch | None:
    """Whether the queue is paused, since when and by whom; None while nobody ever paused it."""
    return QueueSwitch.objects.select_related("changed_by").first()


def is_paused() -> bool:
    """Whether nobody may claim pictures: every process looks before each batch, also after a restart."""
    return QueueSwitch.objects.filter(paused=True).exists()


def set_paused(paused: bool, by: AbstractBaseUser) -> None:
    """Pause or resume the queue for all processes. What is claimed already is finished; uploads are still taken."""
    now = {"paused": paused, "changed_at": timezone.now(), "changed_by_id": by.pk}
    if not QueueSwitch.objects.exclude(paused=paused).update(**now):
        QueueSwitch.objects.get_or_create(defaults=now)


def stale_claims() -> QuerySet[ProductImage]:
    """Pictures that workers claimed longer ago than the lease: those workers are gone."""
    deadline = timezone.now() - timedelta(seconds=settings.CLAIM_LEASE_SECONDS)
    return ProductImage.objects.filter(state=State.CLAIMED, claimed_at__lt=deadline)


def aggregate_state(states: Iterable[str]) -> str:
    """One word for all pictures of a product: the worst state of them, or ``none`` without any."""
    present = set(states)
    order = (State.FAILED, State.CLAIMED, State.PENDING, State.READY)
    return next((state for state in order if state in present), "none")


def release_stale_claims() -> int:
    """Give back the pictures of workers that are gone; answers how many."""
    released = record_failure(stale_claims(), "worker_lost", "The worker stopped while it worked on this picture.")
    if released:
        logger.warning("Gave back %d pictures of workers that stopped or took longer than the lease", released)
    return released


def requeue(which: str, product_ids: Sequence[int] | None = None, image_ids: Sequence[int] | None = None) -> int:
    """Make pictures (these, those of these products, or any) pending again; answers how many.

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
        stale = images_without_features_of(model_id()) if is_clip_available() else Q(pk__in=[])
        if which == "missing":
            stale |= Q(~Exists(Feature.objects.filter(image=OuterRef("pk"), model_name=LEGACY_MODEL)))
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


def images_without_features_of(model_name: str) -> Q:
    """Pictures that have features, but not this model's: two ranges of an index, since ``<>`` would read it all."""
    return Q(embedded_with__gt="", embedded_with__lt=model_name) | Q(embedded_with__gt=model_name)


def queue_counts() -> dict[str, int]:
    """Number of pictures in each state."""
    by_state = dict.fromkeys(State.values, 0)
    # By model too, in the order of an index, so that no row is read.
    of_models = ProductImage.objects.values_list("embedded_with", "state").annotate(n=Count("pk")).order_by()
    for _model, state, count in of_models:
        by_state[state] += count
    return by_state


def failures_by_code() -> dict[str, int]:
    """Number of failed pictures by the code of their error."""
    failed = ProductImage.objects.filter(state=State.FAILED)
    return dict(failed.values_list("error_code").annotate(n=Count("pk")).order_by("error_code"))


def queue_status() -> dict[str, float | None]:
    """Pictures in each state, the measured rate (images/s, None before any) and the seconds that the rest will take.

    While the queue is paused nobody knows how long: None.
    """
    by_state = queue_counts()
    rate = images_per_second()
    waiting = by_state["pending"] + by_state["claimed"]
    eta = round(waiting / rate, 1) if rate and not is_paused() else None
    return {**by_state, "images_per_second": rate, "eta_seconds": eta}


def count_embedded(pictures: int) -> None:
    """Add to today's number of embedded pictures."""
    today = EmbeddingDay.objects.filter(day=timezone.localdate())
    if not today.update(pictures=F("pictures") + pictures):
        EmbeddingDay.objects.bulk_create([EmbeddingDay(day=timezone.localdate())], ignore_conflicts=True)
        today.update(pictures=F("pictures") + pictures)


def embedded_by_day(since: date) -> dict[date, int]:
    """How many pictures were embedded on each day from ``since``; a day without any is not there."""
    return dict(EmbeddingDay.objects.filter(day__gte=since).values_list("day", "pictures"))
