"""How alike two pictures are, 0 to 100: every score is one scaled dot product of two search vectors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.features import CLIP, LEGACY, Features, FloatVector, Kind, detect_feature_type

logger = logging.getLogger(__name__)

Doubles = npt.NDArray[np.float64]
FeatureDict = Mapping[str, npt.NDArray[Any]]

# What each part says in a legacy score. They sum to 1; docs/matching-quality.md says how they were chosen.
COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT = 0.73, 0.25, 0.02
# Stored histograms are square roots already. A lower power still lets the small areas of a label count
# beside the large ones of a background.
COLOR_POWER, TEXTURE_POWER = 0.6, 1.0

# Orders of the seven Hu moments: a logarithm divided by its moment's order is on the same scale for all.
HU_ORDERS = np.array([1, 2, 3, 3, 6, 4, 6])
# Pictures lie between these on that scale; the range is laid on half a circle, see _shape_vector.
HU_RANGE = (2.5, 5.5)


def compute_clip_similarity(embedding1: npt.ArrayLike, embedding2: npt.ArrayLike) -> float:
    """Cosine similarity of two embeddings (d,) as a score 0 to 100.

    A zero vector, or one with a value that is not finite, scores 0. Raises ValueError for different lengths.
    """
    first, second = _unit(embedding1), _unit(embedding2)
    if first.shape != second.shape:
        raise ValueError(f"embeddings of {first.shape} and {second.shape} cannot be compared")
    return _score(first, second)


def compute_batch_similarities(query_embedding: npt.ArrayLike, catalog_embeddings: npt.ArrayLike) -> Doubles:
    """Scores (N,), 0 to 100, of one query (d,) against a catalogue (N, d); else as compute_clip_similarity."""
    query = _unit(query_embedding)
    catalog = np.asarray(catalog_embeddings, dtype=np.float64)
    if catalog.ndim != 2 or catalog.shape[1:] != query.shape:
        raise ValueError(f"a query of {query.shape} cannot be compared with a catalogue of {catalog.shape}")
    usable = np.isfinite(catalog).all(axis=1)
    # Rows are scaled by their largest value first, so that the squares of huge values do not overflow.
    largest = np.abs(catalog).max(axis=1, initial=0.0)
    usable &= largest > 0
    scaled = np.divide(catalog, largest[:, None], out=np.zeros_like(catalog), where=usable[:, None])
    norms = np.linalg.norm(scaled, axis=1)
    cosine = np.divide(scaled @ query, norms, out=np.zeros(len(catalog)), where=usable)
    return np.clip(100 * cosine, 0, 100)


def compute_legacy_similarity(features1: Features | FeatureDict, features2: Features | FeatureDict) -> float:
    """Score 0 to 100 of two legacy features: 100 times the dot product of their search vectors.

    Takes Features or the dictionary with ``color_features``, ``shape_features`` and ``texture_features``.
    """
    return _score(_legacy_vector(features1), _legacy_vector(features2))


def compute_similarity_mixed(features1: Features | FeatureDict, features2: Features | FeatureDict) -> float:
    """Score 0 to 100 of two features of either kind; 0.0 with a logged warning where their kinds differ.

    Features know their kind. A dictionary's is told by its length, as ``detect_feature_type`` does, which
    raises ValueError for a length that is neither kind's.
    """
    kind1, kind2 = _kind(features1), _kind(features2)
    if kind1 != kind2:
        logger.warning("%s and %s features cannot be compared; the score is 0", kind1, kind2)
        return 0.0
    if kind1 == LEGACY:
        return compute_legacy_similarity(features1, features2)
    return compute_clip_similarity(_part(features1, "color"), _part(features2, "color"))


def search_vector(features: Features) -> FloatVector:
    """The vector (d,) float32 whose dot products are the scores: ``score = clip(100 * dot, 0, 100)``.

    Of unit length, or zero where the features are zero. For CLIP it is the embedding; for legacy features
    colour, texture and shape one after the other, each of unit length times the root of its weight.
    """
    vector = _unit(features.color) if features.kind == CLIP else _legacy_vector(features)
    return vector.astype(np.float32)


def _legacy_vector(features: Features | FeatureDict) -> Doubles:
    color = _histogram_vector(_part(features, "color"), COLOR_POWER)
    texture = _histogram_vector(_part(features, "texture"), TEXTURE_POWER)
    shape = _shape_vector(_part(features, "shape"))
    weighted = zip((COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT), (color, texture, shape), strict=True)
    return _unit(np.concatenate([np.sqrt(weight) * part for weight, part in weighted]))


def _histogram_vector(stored: npt.NDArray[Any], power: float) -> Doubles:
    """Without its mean, so that a dot product is the correlation of two histograms, not their overlap.

    Two pictures that merely have many bins in common would otherwise already score high.
    """
    raised = (np.asarray(stored, dtype=np.float64) / 255) ** power
    return _unit(raised - raised.mean())


def _shape_vector(stored: npt.NDArray[Any]) -> Doubles:
    """The seven log-scaled moments as points on a circle, (14,): a dot product is the mean cosine of their distances.

    Signs are left out: noise turns those of small moments over. A moment that vanishes says nothing.
    """
    moments = np.asarray(stored, dtype=np.float64)
    low, high = HU_RANGE
    angle = (np.clip(np.abs(moments) / HU_ORDERS, low, high) - low) / (high - low) * np.pi
    known = moments != 0
    return _unit(np.concatenate([np.cos(angle) * known, np.sin(angle) * known]))


def _kind(features: Features | FeatureDict) -> Kind:
    return features.kind if isinstance(features, Features) else detect_feature_type(features["color_features"])


def _part(features: Features | FeatureDict, name: str) -> npt.NDArray[Any]:
    part: npt.NDArray[Any] = getattr(features, name) if isinstance(features, Features) else features[f"{name}_features"]
    return part


def _unit(vector: npt.ArrayLike) -> Doubles:
    """Scaled to length 1; all zero where it is zero or has a value that is not finite."""
    values = np.asarray(vector, dtype=np.float64)
    largest = np.abs(values).max(initial=0.0)
    if largest == 0 or not np.isfinite(largest):
        return np.zeros_like(values)
    values = values / largest
    return np.asarray(values / np.linalg.norm(values))


def _score(first: Doubles, second: Doubles) -> float:
    return float(np.clip(100 * (first @ second), 0, 100))
