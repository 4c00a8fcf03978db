"""Search vectors: the unit vectors that are compared, made from stored features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.vectors import COLOR_BINS, LEGACY, SHAPE_DIM, TEXTURE_BINS, Features, FloatVector

Doubles = npt.NDArray[np.float64]
FeatureDict = Mapping[str, npt.NDArray[Any]]

# The share of each part in a legacy score. They sum to 1. docs/matching-quality.md says how they were chosen.
COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT = 0.73, 0.25, 0.02
# Stored histograms are square roots already. A lower power gives the small areas of a label more weight
# against a large background.
COLOR_POWER, TEXTURE_POWER = 0.65, 1.0

# Orders of the seven Hu moments. Divided by the order, their logarithms are on one scale.
HU_ORDERS = np.array([1, 2, 3, 3, 6, 4, 6])
# The range of images on that scale. _shape_vector maps it to half a circle.
HU_RANGE = (2.5, 5.5)

# Length of a legacy search vector: colour, texture, and each moment as a point on a circle.
LEGACY_DIM = COLOR_BINS + TEXTURE_BINS + 2 * SHAPE_DIM
PARTS_OF_LEGACY = {
    "colour": slice(0, COLOR_BINS),
    "texture": slice(COLOR_BINS, COLOR_BINS + TEXTURE_BINS),
    "shape": slice(COLOR_BINS + TEXTURE_BINS, LEGACY_DIM),
}


def search_vector(features: Features) -> FloatVector:
    """Return the search vector (d,) float32. ``score_of`` takes its dot products.

    It has unit length, or is zero if the features are zero. For an embedding it is the embedding. For legacy
    features it concatenates colour, texture and shape, each of unit length times the root of its weight.
    """
    vector = legacy_vector(features) if features.kind == LEGACY else unit(features.color)
    return vector.astype(np.float32)


def legacy_search_vectors(color: npt.ArrayLike, shape: npt.ArrayLike, texture: npt.ArrayLike) -> FloatVector:
    """Return the search vectors (N, d) float32 of N legacy features.

    Takes them as stored: (N, 256), (N, 7) and (N, 256).
    """
    return _legacy_vectors(np.asarray(color), np.asarray(shape), np.asarray(texture)).astype(np.float32)


def legacy_vector(features: Features | FeatureDict) -> Doubles:
    """Return the search vector (d,) of legacy features in double precision."""
    return _legacy_vectors(
        feature_part(features, "color"), feature_part(features, "shape"), feature_part(features, "texture")
    )


def _legacy_vectors(color: npt.NDArray[Any], shape: npt.NDArray[Any], texture: npt.NDArray[Any]) -> Doubles:
    """Return search vectors of one (d,) or many (N, d).

    All helpers work along the last axis, so they take both.
    """
    parts = (_histogram_vector(color, COLOR_POWER), _histogram_vector(texture, TEXTURE_POWER), _shape_vector(shape))
    weighted = zip((COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT), parts, strict=True)
    return unit(np.concatenate([np.sqrt(weight) * part for weight, part in weighted], axis=-1))


def _histogram_vector(stored: npt.NDArray[Any], power: float) -> Doubles:
    """Return the histogram minus its mean. A dot product is then a correlation.

    With an overlap, two images with many bins in common would already score high.
    """
    raised = (np.asarray(stored, dtype=np.float64) / 255) ** power
    return unit(raised - raised.mean(axis=-1, keepdims=True))


def _shape_vector(stored: npt.NDArray[Any]) -> Doubles:
    """Return the seven log-scaled moments as points on a circle, (14,).

    A dot product is the mean cosine of their distances. Signs are ignored, because noise flips those of small moments.
    A zero moment is ignored too.
    """
    moments = np.asarray(stored, dtype=np.float64)
    low, high = HU_RANGE
    angle = (np.clip(np.abs(moments) / HU_ORDERS, low, high) - low) / (high - low) * np.pi
    is_nonzero = moments != 0
    return unit(np.concatenate([np.cos(angle) * is_nonzero, np.sin(angle) * is_nonzero], axis=-1))


def feature_part(features: Features | FeatureDict, name: str) -> npt.NDArray[Any]:
    part: npt.NDArray[Any] = getattr(features, name) if isinstance(features, Features) else features[f"{name}_features"]
    return part


def unit(vectors: npt.ArrayLike) -> Doubles:
    """Return vectors of length 1. A vector that is zero or not finite becomes zero."""
    values = np.asarray(vectors, dtype=np.float64)
    # Divide by the largest value first, so that the squares of huge values do not overflow.
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    is_usable = np.isfinite(largest) & (largest > 0)
    scaled = np.divide(values, largest, out=np.zeros_like(values), where=is_usable)
    norms = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return np.asarray(np.divide(scaled, norms, out=scaled, where=is_usable))
