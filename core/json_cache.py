"""Store cached values as JSON. Django's own serializer unpickles, which can run foreign code."""

from __future__ import annotations

import json
import logging
from typing import Any

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
