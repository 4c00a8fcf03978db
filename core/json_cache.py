"""Store cached values as JSON. Django's own serializer unpickles, which can run foreign code."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import ResponseError

from core.redis_state import readable

logger = logging.getLogger(__name__)


class JSONSerializer:
    """A serializer for Django's Redis cache. A value that is not JSON counts as missing."""

    def dumps(self, value: Any) -> bytes | int:
        # Redis can only increment plain integers.
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            logger.warning("The cache holds a value that is not JSON. It is ignored.")
            return None


class _CheckedClient(RedisCacheClient):
    """A client of which only get and set are used. Both raise nothing but RedisError, whatever Redis replies."""

    def get(self, key: Any, default: Any) -> Any:
        try:
            with readable():
                return super().get(key, default)
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):  # a list or set, which the next write replaces
                return default
            raise

    def set(self, key: Any, value: Any, timeout: Any) -> None:
        with readable():
            super().set(key, value, timeout)


class JSONCache(RedisCache):
    """Django's Redis cache with checked replies and values in JSON."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = partial(_CheckedClient, serializer=f"{__name__}.JSONSerializer")
