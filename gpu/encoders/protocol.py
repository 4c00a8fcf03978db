"""What every image encoder offers, and the errors that it raises."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gpu.encoders.preprocess import Pixels, Preprocess

Embeddings = npt.NDArray[np.float32]
Pending = Callable[[], Embeddings]


class DeviceMemoryError(Exception):
    """The device has not enough memory for this batch; a smaller one may fit."""


class LoadError(Exception):
    """A model whose files are whole cannot be loaded all the same; the message says why in one line."""


class Encoder(Protocol):
    """A loaded image encoder. ``lanes`` batches, of ``cpu_batch`` pictures on a CPU, may usefully be in flight."""

    backend: str
    device: str
    dim: int
    max_in_flight: int
    cpu_batch_size: int
    used_at: float
    preprocess: Preprocess

    def start(self, batch: Sequence[Pixels]) -> Pending:
        """Begin to encode n pictures of (crop, crop, 3) uint8; the answer gives their (n, dim) unit float32 vectors.

        Either part raises DeviceMemoryError when the batch does not fit.
        """

    def release_memory(self) -> None:
        """Give memory that is only kept for speed back to the device."""


def monotonic_seconds() -> float:
    """The clock of ``used_at``, in seconds."""
    return time.monotonic()
