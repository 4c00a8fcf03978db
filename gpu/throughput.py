"""Measure how fast this process embeds: images per second over recent batches, kept in memory."""

from __future__ import annotations

import threading
import time
from collections import deque

MAX_RATES = 100
# Shorter windows are not a rate: their images were ready before, as at the end of a run.
MIN_WINDOW_SECONDS = 0.2

_lock = threading.Lock()
_rates: deque[float] = deque(maxlen=MAX_RATES)
_images = 0


class ThroughputMeter:
    """Measure a run, with one rate per ``window`` of images or one for a short run."""

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
        """End the run. An incomplete window counts only if nothing else was measured."""
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
    """Return images per second of up to MAX_RATES recent windows, oldest first.

    Rounded to one digit.
    """
    with _lock:
        return [round(rate, 1) for rate in _rates]


def images_done() -> int:
    """Return how many images this process has put through the pipeline, usable or not."""
    with _lock:
        return _images
