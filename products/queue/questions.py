"""Ask a worker for something that a user waits for, and leave its result where the waiting request finds it."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from celery import current_app
from django.core.cache import cache
from django.utils.translation import gettext as _

from core import circuit_breaker

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.01  # between two checks of a waiting request
RESULT_TTL_SECONDS = 60  # how long the cache keeps a result for the waiting request


class FeaturesPendingError(Exception):
    """The features do not exist yet. ``waited``: a worker did not finish in time."""

    code = "features_pending"

    def __init__(self, message: str, *, waited: bool = False) -> None:
        super().__init__(message)
        self.waited = waited


def ask(task: str, argument: object, wait: float, *further: object) -> Any:
    """Send a task with a new query id and these arguments. Return the JSON data that the worker left for it.

    Any client that can write to Redis can leave a value there, so callers check it. Raises FeaturesPendingError after
    ``wait`` seconds.
    """
    query_id = uuid.uuid4().hex
    try:
        with circuit_breaker.redis_call():
            current_app.send_task(task, [query_id, argument, *further], expires=wait + 1)
            result = _wait_for_result(query_id, wait)
    except circuit_breaker.BrokerUnavailableError as error:
        raise FeaturesPendingError(_("No worker can be reached now. Try again."), waited=True) from error
    if result is None:
        text = _("No worker answered within %g seconds. Try again, or check that workers are running.")
        raise FeaturesPendingError(text % wait, waited=True)
    return result


def leave_result(query_id: str, result: object) -> None:
    """Leave JSON data in the cache for the waiting request."""
    try:
        with circuit_breaker.redis_call():
            cache.set(_cache_key(query_id), result, RESULT_TTL_SECONDS)
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("The result of a query could not be returned to its request: %s", error)


def unreadable_result() -> FeaturesPendingError:
    """Return the error for a result that no worker has left."""
    return FeaturesPendingError(_("The worker's result cannot be read. Try again."), waited=True)


def _wait_for_result(query_id: str, seconds: float) -> Any:
    """Return what the worker left in the cache, or None after ``seconds``.

    Poll the shared cache instead of Celery's result backend: its single subscription is not made for many threads
    and does not survive a restart of Redis.
    """
    deadline = time.monotonic() + seconds
    while (result := cache.get(_cache_key(query_id))) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return result


def _cache_key(query_id: str) -> str:
    return f"query-features-{query_id}"
