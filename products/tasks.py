"""Celery tasks, which make workers read the queue in the database."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown
from django.conf import settings

from core import circuit_breaker
from core.history import retention
from core.sqlite import statistics
from gpu.encoders import downloads
from gpu.models import EmbeddingWorker
from gpu.monitoring import worker
from products import deletion_jobs, import_retention
from products.images import barcodes
from products.queue import claims, query_features, query_text
from products.queue import embed as embedding

logger = logging.getLogger(__name__)

# A query waits at most for the current batch, or for this long if batches are small.
MAX_TASK_SECONDS = 0.3
INTERACTIVE_QUEUE = "questions"  # a user waits, so workers read this queue first
BULK_QUEUE = settings.CELERY_TASK_DEFAULT_QUEUE

_suspended = ContextVar("notifications_suspended", default=False)


@contextmanager
def notifications_suspended() -> Iterator[None]:
    """Do not notify workers of images saved in this block.

    The caller notifies them, or embeds the images, at the end.
    """
    token = _suspended.set(True)
    try:
        yield
    finally:
        _suspended.reset(token)


def notify_workers(image_ids: Sequence[int] | None = None, *, urgent: bool = False) -> bool:
    """Tell the workers that images are pending. Return False if the broker is down.

    Without a broker, embed these images now. With a broker, only an urgent message names its images, and otherwise
    the worker takes whole batches of any pending images. A lost message loses nothing, because the sweep finds the
    rows. So messages expire instead of piling up.
    """
    if _suspended.get():
        return True
    names_images = urgent or not settings.HAS_BROKER
    try:
        with circuit_breaker.redis_call():
            embed.apply_async(
                (list(image_ids) if names_images and image_ids else None,),
                queue=INTERACTIVE_QUEUE if urgent else BULK_QUEUE,
                expires=settings.UPLOAD_WAIT_MAX_SECONDS if urgent else 2 * settings.SWEEP_SECONDS,
            )
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be notified, the sweep will find the images: %s", error)
        return False
    return True


@shared_task(name="products.tasks.embed")
def embed(image_ids: list[int] | None = None) -> None:
    """Embed a batch of pending images, or several small ones, then send the next task.

    ``image_ids`` limits it to these images.
    """
    if not settings.HAS_BROKER:
        embedding.embed_pending(image_ids)
        return
    if not claims.has_pending():
        return
    with worker.watchdog(settings.CLAIM_LEASE_SECONDS):
        embedding.embed_pending(image_ids, seconds=MAX_TASK_SECONDS)
    if claims.has_pending():
        notify_workers()


@shared_task(name="products.tasks.sweep")
def sweep() -> None:
    """Recover lost images, queue outdated ones and delete expired jobs."""
    claims.release_stale_claims()
    # While workers of two models run, each would embed again what the other has just done, without end.
    if len(EmbeddingWorker.objects.models()) <= 1:
        claims.requeue("outdated")
    import_retention.delete_expired()
    deletion_jobs.delete_expired()
    if claims.has_pending():
        notify_workers()
    elif barcodes.unread_images().exists():
        read_barcodes.apply_async(expires=2 * settings.SWEEP_SECONDS)


@shared_task(name="products.tasks.read_barcodes")
def read_barcodes() -> None:
    """Read the barcodes of some stored images that lack them, then send the next task. Embedding goes first."""
    with worker.watchdog(settings.CLAIM_LEASE_SECONDS):
        barcodes.read_unread(seconds=MAX_TASK_SECONDS)
    if not claims.has_pending() and barcodes.unread_images().exists():
        with circuit_breaker.redis_call():
            read_barcodes.apply_async(expires=2 * settings.SWEEP_SECONDS)


@shared_task(name="products.tasks.prune_history")
def prune_history() -> None:
    """Delete the history entries that the settings do not keep."""
    retention.prune()


@shared_task(name="products.tasks.refresh_planner")
def analyze_database() -> None:
    """Update the statistics of SQLite's query planner."""
    statistics.analyze()


@shared_task(name="products.tasks.embed_question")
def embed_query(query_id: str, jpeg: str, encoders: list[str] | None = None) -> None:
    """Compute a query image's features for the request that waits for them."""
    with worker.watchdog(settings.CLAIM_LEASE_SECONDS):
        query_features.compute_for_waiting_request(query_id, jpeg, encoders)


@shared_task(name="products.tasks.embed_text")
def embed_text(query_id: str, text: str) -> None:
    """Compute the vector of a query's text for the request that waits for it."""
    with worker.watchdog(settings.CLAIM_LEASE_SECONDS):
        query_text.compute_for_waiting_request(query_id, text)


@worker_ready.connect
def register_worker(**_: object) -> None:
    """Fetch the weights, register this worker and read the queue once."""
    downloads.ensure_weights()
    worker.register()
    try:
        with circuit_breaker.redis_call():
            sweep.delay()
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("The first sweep waits for its schedule: %s", error)


@worker_shutdown.connect
def unregister_worker(**_: object) -> None:
    """Remove this worker from the list of running workers."""
    worker.unregister()
