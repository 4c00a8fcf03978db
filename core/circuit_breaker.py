"""Redis while it is away: whoever finds it silent remembers that for a moment, so that requests do not wait in a row.

A Redis that is frozen or behind a firewall costs each command its whole timeout. The database is the queue and each
process can count for itself, so nobody needs Redis enough to wait for it again and again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# While Redis is away it is tried again this often, by one thread of each process; the others go on without it.
RETRY_SECONDS = 2.0

_lock = threading.Lock()
_away = False
_tried = float("-inf")


class BrokerUnavailableError(Exception):
    """Redis did not answer, now or a moment ago."""


@contextmanager
def redis_call() -> Iterator[None]:
    """Whoever publishes to Redis, or reads and writes in it, does so in this block. Raises BrokerAwayError."""
    global _tried
    with _lock:
        if _away and time.monotonic() < _tried + RETRY_SECONDS:
            raise BrokerUnavailableError("Redis did not answer a moment ago.")
        _tried = time.monotonic()
    try:
        yield
    except (OperationalError, RedisError) as error:
        _found(away=True, why=str(error))
        raise BrokerUnavailableError(f"Redis does not answer: {error}") from error
    _found(away=False)


def _found(*, away: bool, why: str = "") -> None:
    """Remember how Redis was found, and say so when that is news."""
    global _away, _tried
    with _lock:
        news, _away, _tried = away != _away, away, time.monotonic()
    if news and away:
        logger.error("Redis does not answer, going on without it: %s", why)
    elif news:
        logger.warning("Redis answers again.")
