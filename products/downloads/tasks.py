"""The Celery task that has a worker fetch images. It waits for servers in a thread of its own.

A worker with a GPU runs one task at a time, and searches wait for it. So the task only starts the thread.
"""

from __future__ import annotations

import logging
import threading
import time

from celery import shared_task
from django.conf import settings
from django.db import connection

from core import circuit_breaker
from core.outages import DATABASE_OUTAGES
from products.downloads import fetcher, queue
from products.importing.importer import RowResult, RowStatus
from products.tasks import notify_workers

logger = logging.getLogger(__name__)

NOTIFY_SECONDS = 1.0
_running = threading.Lock()


def notify_fetchers() -> None:
    """Tell the workers that images are to be fetched. The schedule finds them if the message is lost."""
    try:
        with circuit_breaker.redis_call():
            fetch_images.apply_async(expires=2 * settings.SWEEP_SECONDS)
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be told to fetch images, the schedule will do it: %s", error)


@shared_task(name="products.downloads.tasks.fetch_images")
def fetch_images() -> None:
    """Start to fetch the pending images in this worker, unless it does so already."""
    queue.delete_expired()
    queue.release_expired()
    if queue.has_pending() and _running.acquire(blocking=False):
        threading.Thread(target=_fetch_all, name="fetch images", daemon=True).start()


def _fetch_all() -> None:
    last_notified = 0.0

    def report(result: RowResult) -> None:
        nonlocal last_notified
        if result.status is RowStatus.REJECTED:
            logger.warning("Row %d (%s): %s: %s", result.row.number, result.row.label, result.code, result.reason)
        elif time.monotonic() - last_notified > NOTIFY_SECONDS:
            last_notified = time.monotonic()
            notify_workers()

    try:
        fetcher.fetch_pending(report)
        notify_workers()
    except (OSError, *DATABASE_OUTAGES):
        logger.exception("Fetching images stopped. The schedule starts it again")
    except Exception:
        logger.exception("Fetching images failed. The schedule starts it again")
    finally:
        connection.close()
        _running.release()
