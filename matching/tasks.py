"""Celery tasks: look up the matches of new products, and keep the search index in shape."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from celery import shared_task

from core import circuit_breaker
from matching import index, service
from matching.index import IndexFileError

logger = logging.getLogger(__name__)

MAX_PRODUCTS_PER_TASK = 200  # products a task, so that nothing waits long behind it; the next sweep takes the rest


@shared_task(name="matching.tasks.match_unmatched")
def match_unmatched(product_ids: list[int] | None = None) -> None:
    """Match the new products (the named ones, or any) whose features changed since they were last matched."""
    waiting = service.unmatched()
    if product_ids is not None:
        waiting = waiting.filter(pk__in=product_ids)
    service.match_products(list(waiting.values_list("pk", flat=True)[:MAX_PRODUCTS_PER_TASK]))


def notify_workers(product_ids: Sequence[int]) -> None:
    """Have these new products matched soon. Where no worker can be told, the next sweep does it."""
    try:
        with circuit_breaker.redis_call():
            match_unmatched.delay(list(product_ids))
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("The sweep will match the new products, no worker could be told: %s", error)


def notify_index_maintenance() -> None:
    """Have a worker maintain the search index soon. If none can be told, the schedule does it."""
    try:
        with circuit_breaker.redis_call():
            maintain_index.delay()
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("The search index waits for its schedule, no worker could be told: %s", error)


@shared_task(name="matching.tasks.keep_index")
def maintain_index() -> None:
    """Build what is due of the search index; nothing most of the time."""
    try:
        for sentence in index.maintain():
            logger.info("Search index built: %s", sentence)
    except IndexFileError as error:
        logger.warning("The search index was not built, searches are slower: %s", error)
