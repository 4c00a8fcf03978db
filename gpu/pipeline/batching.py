"""Choose how many images go to the device at once, and halve the number when its memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from django.conf import settings

from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import DeviceMemoryError, Embeddings, Encoder, Pending

logger = logging.getLogger(__name__)

# Free memory in GB and a batch size that fits into it: the guide's table, continued downwards.
_SIZE_BY_FREE_GB = ((12.0, 64), (8.0, 32), (4.0, 16), (2.0, 8), (0.0, 4))

CPU_BATCH_SIZE = 8


def batch_size(device: str, free_gb: float | None, cpu_batch_size: int = CPU_BATCH_SIZE) -> int:
    """Return CLIP_BATCH_SIZE, else a size for a CPU or the GPU's free memory in GB.

    90 % of an amount of memory is enough for its size, because a card sold with 8 GB never has all of it free.
    """
    configured: int | None = settings.CLIP_CONFIG["batch_size"]
    if configured:
        return configured
    if device == "cpu" or free_gb is None:
        return cpu_batch_size
    return next(size for memory, size in _SIZE_BY_FREE_GB if free_gb >= 0.9 * memory)


def free_memory_gb(device: str) -> float | None:
    """Return the GPU's free memory in GB (2**30 bytes), or None on a CPU.

    Memory in torch's cache counts as free.
    """
    if device == "cpu":
        return None  # an installation with ONNX Runtime may have no torch
    import torch

    if device in {"cuda", "rocm"}:
        free, _ = torch.cuda.mem_get_info()
        return float(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()) / 2**30
    if device == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) / 2**30
    return None


class AdaptiveBatcher:
    """Splits images into batches that fit.

    ``size`` shrinks when memory runs out, and does not grow again.
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        self.encoder = encoder
        self.size = size

    def start(self, images: Sequence[Pixels]) -> Pending:
        """Start to encode any number of images.

        The returned function returns their vectors (n, dim) in order. Raises DeviceMemoryError only if a single image
        does not fit.
        """
        started: list[tuple[Sequence[Pixels], Pending]] = []
        position = 0
        while position < len(images):
            batch = images[position : position + self.size]
            pending = self._start_batch(batch)
            if pending is None:
                # Free the device of the earlier batches before the smaller one is tried.
                finished = [self._finish(*item) for item in started]
                started = [(item, _constant(vectors)) for (item, _), vectors in zip(started, finished, strict=True)]
                self._shrink(len(batch))
                continue
            started.append((batch, pending))
            position += len(batch)
        return lambda: np.concatenate([self._finish(*item) for item in started])

    def _start_batch(self, batch: Sequence[Pixels]) -> Pending | None:
        try:
            return self.encoder.start(batch)
        except DeviceMemoryError:
            if len(batch) == 1:
                raise
        return None

    def _finish(self, batch: Sequence[Pixels], pending: Pending) -> Embeddings:
        try:
            return pending()
        except DeviceMemoryError:
            if len(batch) == 1:
                raise
        self._shrink(len(batch))
        return self.start(batch)()

    def _shrink(self, failed_size: int) -> None:
        # Only called after the exception is gone: its traceback would keep the failed batch on the device.
        self.encoder.release_memory()
        if self.size >= failed_size:  # otherwise the size has shrunk since this batch started
            self.size = max(1, failed_size // 2)
            logger.warning("The device ran out of memory with %d images. Continuing with %d.", failed_size, self.size)


def _constant(vectors: Embeddings) -> Pending:
    return lambda: vectors
