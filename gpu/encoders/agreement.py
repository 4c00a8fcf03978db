"""Compare two encoders: cosines, and whether each image keeps its nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpu.encoders.protocol import Embeddings


@dataclass(frozen=True, slots=True)
class Agreement:
    """How much two encoders agree.

    The cosines compare the two vectors of each image. ``top10`` is the share of the ten nearest images in common.
    """

    images: int
    min_cosine: float
    mean_cosine: float
    top10: float

    def __str__(self) -> str:
        return (
            f"{self.images} images, cosine at least {self.min_cosine:.5f} and {self.mean_cosine:.5f} on average, "
            f"{self.top10:.1%} of the ten nearest in common"
        )


def measure_agreement(reference: Embeddings, other: Embeddings) -> Agreement:
    """Compare two sets of unit vectors of the same n > 10 images, (n, dim) each."""
    cosines = np.einsum("ij,ij->i", reference, other)
    nearest, others = (_ten_nearest(vectors) for vectors in (reference, other))
    same = [len(set(a) & set(b)) / 10 for a, b in zip(nearest, others, strict=True)]
    return Agreement(len(reference), float(cosines.min()), float(cosines.mean()), float(np.mean(same)))


def _ten_nearest(vectors: Embeddings) -> Any:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]
