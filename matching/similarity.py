"""Similarity scores of images, 0 to 100: the dot product of two search vectors, scaled by their kind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.vectors import CLIP, LEGACY, Features, FloatVector, Kind, detect_feature_type

logger = logging.getLogger(__name__)

Doubles = npt.NDArray[np.float64]
FeatureDict = Mapping[str, npt.NDArray[Any]]

# The share of each part in a legacy score. They sum to 1. docs/matching-quality.md says how they were chosen.
COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT = 0.73, 0.25, 0.02
# Stored histograms are square roots already. A lower power gives the small areas of a label more weight
# against a large background.
COLOR_POWER, TEXTURE_POWER = 0.65, 1.0

# Histograms of unrelated images correlate too, so a legacy score is 0 up to this dot product. A legacy score of 50, the
# default threshold, is reached by the true product in 95 of 100 cases, but not by the median wrong one.
LEGACY_FLOOR = 0.5

# Orders of the seven Hu moments. Divided by the order, their logarithms are on one scale.
HU_ORDERS = np.array([1, 2, 3, 3, 6, 4, 6])
# The range of images on that scale. _shape_vector maps it to half a circle.
HU_RANGE = (2.5, 5.5)


def compute_clip_similarity(embedding1: npt.ArrayLike, embedding2: npt.ArrayLike) -> float:
    """Return the cosine similarity of two embeddings (d,) as a score 0 to 100.

    A zero vector, or one with a value that is not finite, scores 0. Raises ValueError for different lengths.
    """
    first, second = _unit(embedding1), _unit(embedding2)
    if first.shape != second.shape:
        raise ValueError(f"embeddings of {first.shape} and {second.shape} cannot be compared")
    return _score(first, second)


def compute_batch_similarities(query_embedding: npt.ArrayLike, catalog_embeddings: npt.ArrayLike) -> Doubles:
    """Return the scores (N,), 0 to 100, of one query (d,) against a catalogue (N, d).

    Otherwise works as ``compute_clip_similarity``.
    """
    query = _unit(query_embedding)
    catalog = np.asarray(catalog_embeddings, dtype=np.float64)
    if catalog.ndim != 2 or catalog.shape[1:] != query.shape:
        raise ValueError(f"a query of {query.shape} cannot be compared with a catalogue of {catalog.shape}")
    return np.clip(100 * (_unit(catalog) @ query), 0, 100)


def compute_legacy_similarity(features1: Features | FeatureDict, features2: Features | FeatureDict) -> float:
    """Return the score 0 to 100 of two legacy features.

    It is the dot product of their search vectors, scaled from LEGACY_FLOOR up. Takes Features, or a dictionary with
    ``color_features``, ``shape_features`` and ``texture_features``.
    """
    return _score(_legacy_vector(features1), _legacy_vector(features2), LEGACY)


def compute_similarity_mixed(features1: Features | FeatureDict, features2: Features | FeatureDict) -> float:
    """Return the score 0 to 100 of two features of either kind.

    Returns 0.0 and logs a warning if the kinds differ. ``detect_feature_type`` finds the kind of a dictionary by its
    length, and raises ValueError for any other length.
    """
    kind1, kind2 = _kind(features1), _kind(features2)
    if kind1 != kind2:
        logger.warning("%s and %s features cannot be compared; the score is 0", kind1, kind2)
        return 0.0
    if kind1 == LEGACY:
        return compute_legacy_similarity(features1, features2)
    return compute_clip_similarity(_part(features1, "color"), _part(features2, "color"))


def score_of(dot: float, kind: str) -> float:
    """Return the score 0 to 100 of a dot product of two search vectors of one kind.

    A higher dot product never has a lower score.
    """
    share = (dot - LEGACY_FLOOR) / (1 - LEGACY_FLOOR) if kind == LEGACY else dot
    return float(min(max(100 * share, 0.0), 100.0))


def search_vector(features: Features) -> FloatVector:
    """Return the search vector (d,) float32. ``score_of`` takes its dot products.

    It has unit length, or is zero if the features are zero. For CLIP it is the embedding. For legacy features it
    concatenates colour, texture and shape, each of unit length times the root of its weight.
    """
    vector = _unit(features.color) if features.kind == CLIP else _legacy_vector(features)
    return vector.astype(np.float32)


def legacy_search_vectors(color: npt.ArrayLike, shape: npt.ArrayLike, texture: npt.ArrayLike) -> FloatVector:
    """Return the search vectors (N, d) float32 of N legacy features.

    Takes them as stored: (N, 256), (N, 7) and (N, 256).
    """
    return _legacy_vectors(np.asarray(color), np.asarray(shape), np.asarray(texture)).astype(np.float32)


def _legacy_vector(features: Features | FeatureDict) -> Doubles:
    return _legacy_vectors(_part(features, "color"), _part(features, "shape"), _part(features, "texture"))


def _legacy_vectors(color: npt.NDArray[Any], shape: npt.NDArray[Any], texture: npt.NDArray[Any]) -> Doubles:
    """Return search vectors of one (d,) or many (N, d).

    All helpers work along the last axis, so they take both.
    """
    parts = (_histogram_vector(color, COLOR_POWER), _histogram_vector(texture, TEXTURE_POWER), _shape_vector(shape))
    weighted = zip((COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT), parts, strict=True)
    return _unit(np.concatenate([np.sqrt(weight) * part for weight, part in weighted], axis=-1))


def _histogram_vector(stored: npt.NDArray[Any], power: float) -> Doubles:
    """Return the histogram minus its mean. A dot product is then a correlation.

    With an overlap, two images with many bins in common would already score high.
    """
    raised = (np.asarray(stored, dtype=np.float64) / 255) ** power
    return _unit(raised - raised.mean(axis=-1, keepdims=True))


def _shape_vector(stored: npt.NDArray[Any]) -> Doubles:
    """Return the seven log-scaled moments as points on a circle, (14,).

    A dot product is the mean cosine of their distances. Signs are ignored, because noise flips those of small moments.
    A zero moment is ignored too.
    """
    moments = np.asarray(stored, dtype=np.float64)
    low, high = HU_RANGE
    angle = (np.clip(np.abs(moments) / HU_ORDERS, low, high) - low) / (high - low) * np.pi
    is_nonzero = moments != 0
    return _unit(np.concatenate([np.cos(angle) * is_nonzero, np.sin(angle) * is_nonzero], axis=-1))


def _kind(features: Features | FeatureDict) -> Kind:
    return features.kind if isinstance(features, Features) else detect_feature_type(features["color_features"])


def _part(features: Features | FeatureDict, name: str) -> npt.NDArray[Any]:
    part: npt.NDArray[Any] = getattr(features, name) if isinstance(features, Features) else features[f"{name}_features"]
    return part


def _unit(vectors: npt.ArrayLike) -> Doubles:
    """Return vectors of length 1. A vector that is zero or not finite becomes zero."""
    values = np.asarray(vectors, dtype=np.float64)
    # Divide by the largest value first, so that the squares of huge values do not overflow.
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    is_usable = np.isfinite(largest) & (largest > 0)
    scaled = np.divide(values, largest, out=np.zeros_like(values), where=is_usable)
    norms = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return np.asarray(np.divide(scaled, norms, out=scaled, where=is_usable))


def _score(first: Doubles, second: Doubles, kind: Kind = CLIP) -> float:
    return score_of(float(first @ second), kind)
