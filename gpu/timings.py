"""Seconds per stage from a file to a stored vector, summed over all threads and subprocesses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

Stage = Literal["decode", "prepare", "copy", "encode", "store"]

_lock = threading.Lock()
_seconds: dict[Stage, float] = {}


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Add the time of the block to a stage.

    Threads add up, so the sum can exceed the wall time.
    """
    started = time.perf_counter()
    try:
        yield
    finally:
        add({name: time.perf_counter() - started})


def add(seconds: Mapping[Stage, float]) -> None:
    """Add seconds that a subprocess has measured."""
    with _lock:
        for name, spent in seconds.items():
            _seconds[name] = _seconds.get(name, 0.0) + spent


def drain() -> dict[Stage, float]:
    """Return the seconds per stage since the last call, and start again from zero."""
    with _lock:
        taken = dict(_seconds)
        _seconds.clear()
    return taken
