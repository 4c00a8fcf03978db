"""Celery tasks: match new products and maintain the search index."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime

from celery import shared_task
from django.conf import settings

from core import circuit_breaker
from core.database.batches import iter_batches
from gpu.monitoring import worker
from matching import explanation, index, newcomers, service
from matching.index import IndexFileError
from matching.newcomers import Newcomers

logger = logging.getLogger(__name__)

MAX_PRODUCTS_PER_TASK = 200  # named in one message; the next sweep matches the rest
# A query image waits at most for one product longer than this. A task of 200 products takes seconds.
MAX_TASK_SECONDS = 0.3


@shared_task(name="matching.tasks.match_unmatched")
def match_unmatched(product_ids: list[int] | None = None) -> None:
    """Match those of these new products, or of all, whose features changed.

    With a broker it stops after a moment and sends a message for the rest, so that queries go first.
    """
    unmatched = service.unmatched()
    if product_ids is not None:
        unmatched = unmatched.filter(pk__in=product_ids)
    ids = list(unmatched.values_list("pk", flat=True)[:MAX_PRODUCTS_PER_TASK])
    end = time.monotonic() + MAX_TASK_SECONDS
    for done, product_id in enumerate(ids, start=1):
        service.match_products([product_id], as_before=True)
        if settings.HAS_BROKER and time.monotonic() > end and done < len(ids):
            notify_workers(ids[done:])
            return
    if not settings.HAS_BROKER:
        follow_catalogue()  # without a schedule


@shared_task(name="matching.tasks.follow_catalogue")
def follow_catalogue(product_ids: list[int] | None = None, until: str | None = None, after: int = 0) -> None:
    """Match the open cases again that products new in the catalogue could answer.

    With a broker it stops after a moment and sends a message to go on with these products after this case. If the
    message is lost, the next sweep starts again.
    """
    current = Newcomers(product_ids, datetime.fromisoformat(until)) if product_ids and until else None
    end = time.monotonic() + MAX_TASK_SECONDS
    for block in newcomers.follow(current, after):
        if not settings.HAS_BROKER:
            service.match_products(block.marked, as_before=True)
            continue
        for ids in iter_batches(block.marked, MAX_PRODUCTS_PER_TASK):
            notify_workers(ids)
        if time.monotonic() > end:
            _follow_later(block)
            return


def _follow_later(block: newcomers.Block) -> None:
    try:
        with circuit_breaker.redis_call():
            follow_catalogue.delay(block.newcomers.ids, block.newcomers.until.isoformat(), block.last)
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be notified, so the sweep will follow the catalogue: %s", error)


def notify_workers(product_ids: Sequence[int] | None) -> None:
    """Ask the workers to match these new products soon, or all that are unmatched.

    If the broker is not available, the next sweep does it.
    """
    try:
        with circuit_breaker.redis_call():
            match_unmatched.delay(None if product_ids is None else list(product_ids))
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be notified, so the sweep will match the new products: %s", error)


@shared_task(name="matching.tasks.keep_calibrated")
def keep_calibrated() -> None:
    """Learn the probabilities of the version that answers, if that is due. Usually it is not."""
    from matching.answers import calibration  # it searches, and the service imports these tasks

    report = calibration.keep_calibrated()
    if report is not None:
        logger.info("Probabilities of %s learned, adopted: %s", report["version"], report["adopted"])


def notify_index_maintenance() -> None:
    """Ask a worker to maintain the search index soon.

    If the broker is not available, the schedule does it.
    """
    try:
        with circuit_breaker.redis_call():
            maintain_index.delay()
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be notified, so the search index waits for its schedule: %s", error)


@shared_task(name="matching.tasks.keep_index")
def maintain_index() -> None:
    """Build what is stale in the search index. Usually nothing is."""
    try:
        for sentence in index.maintain():
            logger.info("Search index built: %s", sentence)
    except IndexFileError as error:
        logger.warning("The search index was not built, so search is slower: %s", error)


@shared_task(name="matching.tasks.explain")
def explain(query_id: str, match_id: int) -> None:
    """Explain a match for the request that waits for it."""
    with worker.watchdog(settings.CLAIM_LEASE_SECONDS):
        explanation.compute_for_waiting_request(query_id, match_id)
