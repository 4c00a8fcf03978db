"""The interface of image encoders, and the errors that they raise."""

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
    """The batch does not fit into the device's memory. A smaller one may."""


class LoadError(Exception):
    """A model cannot be loaded although its files are complete.

    The message says why in one line.
    """


class Encoder(Protocol):
    """A loaded image encoder.

    max_in_flight: how many batches may usefully run at the same time. cpu_batch_size: images per batch on a CPU.
    """

    backend: str
    device: str
    dim: int
    max_in_flight: int
    cpu_batch_size: int
    used_at: float
    preprocess: Preprocess

    def start(self, batch: Sequence[Pixels]) -> Pending:
        """Start to encode a batch and return a function that waits for the vectors.

        Images are (crop, crop, 3) uint8. The vectors are (n, dim) float32 of unit length. Both functions raise
        DeviceMemoryError.
        """

    def release_memory(self) -> None:
        """Release memory that is only cached for speed."""


def monotonic_seconds() -> float:
    """Return the clock of ``used_at``, in seconds."""
    return time.monotonic()
