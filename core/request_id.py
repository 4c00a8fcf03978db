"""The id of the current request: set by the middleware, stored with each image, named in each log line."""

from __future__ import annotations

from contextvars import ContextVar

MAX_LENGTH = 64

# Empty outside of requests: commands, the sweep, a worker between tasks.
request_id: ContextVar[str] = ContextVar("request_id", default="")
