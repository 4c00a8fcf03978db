"""Celery tasks: thin wake-ups for the queue in the database, and the question that somebody waits for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown
from django.conf import settings

from core import circuit_breaker
from core.sqlite import statistics
from gpu.encoders import downloads
from gpu.monitoring import worker
from products import deletion_jobs, import_retention
from products.queue import claims, query_features
from products.queue import embed as embedding

logger = logging.getLogger(__name__)

# A question that comes in meanwhile waits for one batch, or for so many small ones.
MAX_TASK_SECONDS = 0.3
INTERACTIVE_QUEUE = "questions"  # somebody waits: workers look here first
BULK_QUEUE = settings.CELERY_TASK_DEFAULT_QUEUE

_held_back = ContextVar("held_back", default=False)


@contextmanager
def notifications_suspended() -> Iterator[None]:
    """Within the block saved pictures wake nobody: who saves many embeds them together, or wakes once at the end."""
    token = _held_back.set(True)
    try:
        yield
    finally:
        _held_back.reset(token)


def notify_workers(image_ids: Sequence[int] | None = None, *, urgent: bool = False) -> bool:
    """Tell the workers that pictures are pending; False when the broker cannot be reached.

    Without a broker the named pictures are embedded here and now. With one, only an urgent message names
    its pictures: in bulk the worker takes whatever waits, a whole batch at a time. A message that is lost
    loses nothing, since the sweep finds the rows; so messages expire and never pile up.
    """
    if _held_back.get():
        return True
    named = urgent or not settings.HAS_BROKER
    try:
        with circuit_breaker.redis_call():
            embed.apply_async(
                (list(image_ids) if named and image_ids else None,),
                queue=INTERACTIVE_QUEUE if urgent else BULK_QUEUE,
                expires=settings.UPLOAD_WAIT_MAX_SECONDS if urgent else 2 * settings.SWEEP_SECONDS,
            )
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be woken, the sweep will find the pictures: %s", error)
        return False
    return True


@shared_task(name="products.tasks.embed")
def embed(image_ids: list[int] | None = None) -> None:
    """Embed one batch of pending pictures (of the named ones, if any) or several small ones, then wake the next."""
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
    """Pick up what lost messages and workers left, queue what the current model has not seen, forget old work."""
    claims.release_stale_claims()
    claims.requeue("outdated")
    import_retention.delete_expired()
    deletion_jobs.delete_expired()
    if claims.has_pending():
        notify_workers()


@shared_task(name="products.tasks.refresh_planner")
def analyze_database() -> None:
    """What is in the tables changes; once an hour the database looks at them."""
    statistics.analyze()


@shared_task(name="products.tasks.embed_question")
def embed_query(query: str, jpeg: str) -> None:
    """Features of a picture that nobody stores; see products.questions for both ends of the wire."""
    with worker.watchdog(settings.CLAIM_LEASE_SECONDS):
        query_features.compute_for_waiting_request(query, jpeg)


@worker_ready.connect
def register_worker(**_: object) -> None:
    """A worker that starts gets its weights, announces itself and looks at the queue before any message comes."""
    downloads.ensure_weights()
    worker.register()
    sweep.delay()


@worker_shutdown.connect
def unregister_worker(**_: object) -> None:
    """A worker that is asked to stop says that it is gone."""
    worker.unregister()
