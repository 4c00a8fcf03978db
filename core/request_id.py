"""The id of the current request: set by the middleware, stored with each image, named in each log line."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TypeGuard

MAX_LENGTH = 64
_VALID = re.compile(rf"[A-Za-z0-9._-]{{8,{MAX_LENGTH}}}")

# Empty outside of requests: commands, the sweep, a worker between tasks.
request_id: ContextVar[str] = ContextVar("request_id", default="")


def is_valid(given: object) -> TypeGuard[str]:
    """Return whether this id from a client or a message can be used."""
    return isinstance(given, str) and _VALID.fullmatch(given) is not None
