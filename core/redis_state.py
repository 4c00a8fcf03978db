"""What is wrong with Redis, in one sentence for operators. No sentence contains the password."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import redis
from django.conf import settings
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

# What redis-py, kombu and Django raise besides RedisError if the replies or the stored values make no sense.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError)

_CHECK_KEY = "catalogmatch:write-check"

_NOT_REDIS = "the server in CELERY_BROKER_URL does not answer like Redis"

# The first class that fits counts, so subclasses stand before their bases.
_SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "Redis refuses writes: its memory is full (maxmemory, noeviction)"),
    (exceptions.ReadOnlyError, "Redis refuses writes: it is a read-only replica"),
    (exceptions.NoPermissionError, "Redis refuses commands: its user lacks permissions (ACL)"),
    (exceptions.MasterDownError, "Redis refuses commands: it is a replica that has lost its master"),
    (exceptions.BusyLoadingError, "Redis is loading its data and refuses commands until it is done"),
    (exceptions.InvalidResponse, _NOT_REDIS),
)
_BY_CODE = {
    "MISCONF": "Redis refuses writes: it cannot save its data to disk (stop-writes-on-bgsave-error)",
    "WRONGTYPE": "Redis holds foreign values under the names of CatalogMatch's queues; delete them with redis-cli DEL",
    "NOREPLICAS": "Redis refuses writes: it has too few replicas (min-replicas-to-write)",
}


def problem(seconds: float) -> str | None:
    """Return what is wrong with Redis, or None. Each step waits at most ``seconds``."""
    waits = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": Retry(NoBackoff(), 0)}
    token = secrets.token_bytes(8)
    try:
        with readable(), closing(redis.Redis.from_url(settings.CELERY_BROKER_URL, **waits)) as server:
            for queue in _queues():
                server.llen(queue)
            server.set(_CHECK_KEY, token, px=1000)
            if server.get(_CHECK_KEY) != token:
                return f"{_NOT_REDIS}: it forgets what it stores"
    except exceptions.RedisError as error:
        return explain(error)
    return None


def is_address(url: str) -> bool:
    """Return whether ``url`` is the address of a Redis. The errors of other libraries quote parts of the password."""
    try:
        redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        return False
    return True


def _queues() -> set[str]:
    return {settings.CELERY_TASK_DEFAULT_QUEUE, *(route["queue"] for route in settings.CELERY_TASK_ROUTES.values())}


@contextmanager
def readable() -> Iterator[None]:
    """Raise InvalidResponse, a RedisError, if a reply or a stored value makes no sense."""
    try:
        yield
    except UNREADABLE as error:
        # Without its text, which may quote a foreign value.
        raise exceptions.InvalidResponse(f"a foreign reply or value ({type(error).__name__})") from error


def explain(error: BaseException) -> str:
    """Return what an error of redis-py or kombu means.

    Redis is not trusted and may repeat the password in its errors, so their texts are left out.
    """
    while error.__cause__ is not None and not isinstance(error, exceptions.RedisError):
        error = error.__cause__  # kombu wraps what redis-py raises
    if isinstance(error, exceptions.AuthenticationError):
        return _explain_refused_password()
    for error_type, sentence in _SENTENCES:
        if isinstance(error, error_type):
            return sentence
    if isinstance(error, exceptions.ResponseError):
        code = str(error).partition(" ")[0]
        return _BY_CODE.get(code, "Redis refuses a command")
    return f"Redis does not respond: {error}"


def _explain_refused_password() -> str:
    if urlsplit(settings.CELERY_BROKER_URL).password:
        return "Redis refuses the password in CELERY_BROKER_URL"
    return "Redis wants a password, and CELERY_BROKER_URL has none"
