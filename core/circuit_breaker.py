"""A circuit breaker for Redis: after a failure, calls fail at once for a moment instead of waiting again.

A frozen Redis costs each command its whole timeout. No request needs Redis enough to wait for it twice: the database
is the queue, and each process can throttle by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from core import redis_state

logger = logging.getLogger(__name__)

# After a failure one thread of each process tries Redis again this often. The others continue without it.
RETRY_SECONDS = 2.0

_lock = threading.Lock()
_is_open = False
_tried_at = float("-inf")


class BrokerUnavailableError(Exception):
    """Redis cannot be used, or could not a moment ago."""


@contextmanager
def redis_call() -> Iterator[None]:
    """Wrap a block that uses Redis.

    Raises BrokerUnavailableError, at once while Redis is down.
    """
    global _tried_at
    with _lock:
        if _is_open and time.monotonic() < _tried_at + RETRY_SECONDS:
            raise BrokerUnavailableError("Redis could not be used a moment ago.")
        _tried_at = time.monotonic()
    try:
        yield
    except (OperationalError, RedisError) as error:
        reason = redis_state.explain(error)
        _record(failed=True, reason=reason)
        raise BrokerUnavailableError(reason) from error
    _record(failed=False)


def _record(*, failed: bool, reason: str = "") -> None:
    """Record whether Redis could be used, and log a change of state."""
    global _is_open, _tried_at
    with _lock:
        changed, _is_open, _tried_at = failed != _is_open, failed, time.monotonic()
    if changed and failed:
        logger.error("Continuing without Redis: %s", reason)
    elif changed:
        logger.warning("Redis can be used again.")
