"""How many pictures go to the device at once: from its memory or the setting, halved when they do not fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from django.conf import settings

from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import DeviceMemoryError, Embeddings, Encoder, Pending

logger = logging.getLogger(__name__)

# Free memory in GB and the batch that is sure to fit into it; the guide's table, continued downwards.
_BY_MEMORY = ((12.0, 64), (8.0, 32), (4.0, 16), (2.0, 8), (0.0, 4))

CPU_BATCH_SIZE = 8


def batch_size(device: str, free_gb: float | None, cpu_batch_size: int = CPU_BATCH_SIZE) -> int:
    """Pictures per batch: CLIP_BATCH_SIZE, or from the GPU's free memory in GB; a CPU has its own size.

    A card sold with 8 GB never has all of them free, so sizes are taken as reached from 90 % on.
    """
    configured: int | None = settings.CLIP_CONFIG["batch_size"]
    if configured:
        return configured
    if device == "cpu" or free_gb is None:
        return cpu_batch_size
    return next(size for memory, size in _BY_MEMORY if free_gb >= 0.9 * memory)


def free_memory_gb(device: str) -> float | None:
    """Free memory of the GPU in GB (2**30 bytes), what torch keeps in its cache included; None on a CPU."""
    if device == "cpu":
        return None  # ONNX Runtime does without torch, and so may an installation
    import torch

    if device in {"cuda", "rocm"}:
        free, _ = torch.cuda.mem_get_info()
        return float(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()) / 2**30
    if device == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) / 2**30
    return None


class AdaptiveBatcher:
    """Feeds an encoder with batches that fit. ``size`` shrinks when the device runs out of memory and stays so."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        self.encoder = encoder
        self.size = size

    def start(self, pictures: Sequence[Pixels]) -> Pending:
        """Begin to encode any number of pictures; the answer gives all their vectors in order, (n, dim).

        Raises DeviceMemoryError only when not even a single picture fits.
        """
        begun: list[tuple[Sequence[Pixels], Pending]] = []
        position = 0
        while position < len(pictures):
            piece = pictures[position : position + self.size]
            pending = self._begin(piece)
            if pending is None:
                # Take what is under way off the device before the smaller batch is tried.
                done = [self._finish(*part) for part in begun]
                begun = [(part, _known(vectors)) for (part, _), vectors in zip(begun, done, strict=True)]
                self._shrink(len(piece))
                continue
            begun.append((piece, pending))
            position += len(piece)
        return lambda: np.concatenate([self._finish(*part) for part in begun])

    def _begin(self, piece: Sequence[Pixels]) -> Pending | None:
        try:
            return self.encoder.start(piece)
        except DeviceMemoryError:
            if len(piece) == 1:
                raise
        return None

    def _finish(self, piece: Sequence[Pixels], pending: Pending) -> Embeddings:
        try:
            return pending()
        except DeviceMemoryError:
            if len(piece) == 1:
                raise
        self._shrink(len(piece))
        return self.start(piece)()

    def _shrink(self, too_large: int) -> None:
        # Called when no exception is alive any more: its traceback would keep the failed batch on the device.
        self.encoder.release_memory()
        if self.size >= too_large:  # else a batch begun earlier, at a size that was given up since
            self.size = max(1, too_large // 2)
            logger.warning("The device ran out of memory with %d pictures; going on with %d.", too_large, self.size)


def _known(vectors: Embeddings) -> Pending:
    return lambda: vectors
