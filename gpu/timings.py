"""Where the time goes: seconds per stage of the way from a file to a stored vector, over all threads and helpers."""

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
    """Count the time of the block as the stage's. Stages of several threads add up, so they can exceed the clock."""
    started = time.perf_counter()
    try:
        yield
    finally:
        add({name: time.perf_counter() - started})


def add(seconds: Mapping[Stage, float]) -> None:
    """Count seconds that another process has spent for this one."""
    with _lock:
        for name, spent in seconds.items():
            _seconds[name] = _seconds.get(name, 0.0) + spent


def drain() -> dict[Stage, float]:
    """Seconds per stage since the last call, which starts the count again."""
    with _lock:
        taken = dict(_seconds)
        _seconds.clear()
    return taken
