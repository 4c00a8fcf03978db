"""Which request the work at hand belongs to: set at the edge, stored with each picture, named in each log line."""

from __future__ import annotations

from contextvars import ContextVar

MAX_LENGTH = 64

# Empty where nobody asked: commands, the sweep, a worker between tasks.
request_id: ContextVar[str] = ContextVar("request_id", default="")
