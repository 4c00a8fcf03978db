"""How fast this process embeds: images per second over recent batches, kept in memory."""

from __future__ import annotations

import threading
import time
from collections import deque

MAX_RATES = 100
# What took less was ready before it was asked for, as the last windows of a run are: that is no rate.
MIN_WINDOW_SECONDS = 0.2

_lock = threading.Lock()
_rates: deque[float] = deque(maxlen=MAX_RATES)
_images = 0


class ThroughputMeter:
    """Measures one run: a rate for each ``window`` of pictures, one for a run that has fewer or is short."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._since = time.perf_counter()
        self._count = 0
        self._measured = False

    def add(self, images: int) -> None:
        self._count += images
        if self._count >= self._window and time.perf_counter() - self._since >= MIN_WINDOW_SECONDS:
            self._record()

    def close(self) -> None:
        """End the run. What is left of the last window counts only where nothing else was measured."""
        global _images
        if self._count and not self._measured:
            self._record()
        with _lock:
            _images += self._count

    def _record(self) -> None:
        global _images
        now = time.perf_counter()
        with _lock:
            _rates.append(self._count / max(now - self._since, 1e-6))
            _images += self._count
        self._since, self._count, self._measured = now, 0, True


def recent_rates() -> list[float]:
    """Images per second of up to 100 recent windows, oldest first, rounded to what is worth knowing."""
    with _lock:
        return [round(rate, 1) for rate in _rates]


def images_done() -> int:
    """Pictures that this process has put through the pipeline, usable or not."""
    with _lock:
        return _images
