"""How alike two pictures are, 0 to 100: every score is one dot product of two search vectors, scaled by its kind."""

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

# What each part says in a legacy score. They sum to 1; docs/matching-quality.md says how they were chosen.
COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT = 0.73, 0.25, 0.02
# Stored histograms are square roots already. A lower power still lets the small areas of a label count
# beside the large ones of a background.
COLOR_POWER, TEXTURE_POWER = 0.65, 1.0

# Histograms of unrelated pictures correlate too: a legacy dot product counts from here up. So a legacy score of 50,
# the default threshold, is what the true product reaches in 95 of 100 cases and the median wrong one does not.
LEGACY_FLOOR = 0.5

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
    return np.clip(100 * (_unit(catalog) @ query), 0, 100)


def compute_legacy_similarity(features1: Features | FeatureDict, features2: Features | FeatureDict) -> float:
    """Score 0 to 100 of two legacy features: the dot product of their search vectors, scaled from LEGACY_FLOOR up.

    Takes Features or the dictionary with ``color_features``, ``shape_features`` and ``texture_features``.
    """
    return _score(_legacy_vector(features1), _legacy_vector(features2), LEGACY)


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


def score_of(dot: float, kind: str) -> float:
    """The score 0 to 100 of a dot product of two search vectors of one kind; rises with the dot product."""
    share = (dot - LEGACY_FLOOR) / (1 - LEGACY_FLOOR) if kind == LEGACY else dot
    return float(min(max(100 * share, 0.0), 100.0))


def search_vector(features: Features) -> FloatVector:
    """The vector (d,) float32 whose dot products are scored by ``score_of``.

    Of unit length, or zero where the features are zero. For CLIP it is the embedding; for legacy features
    colour, texture and shape one after the other, each of unit length times the root of its weight.
    """
    vector = _unit(features.color) if features.kind == CLIP else _legacy_vector(features)
    return vector.astype(np.float32)


def legacy_search_vectors(color: npt.ArrayLike, shape: npt.ArrayLike, texture: npt.ArrayLike) -> FloatVector:
    """``search_vector`` of many legacy features: (N, 256), (N, 7) and (N, 256) as stored → (N, d) float32."""
    return _legacy_vectors(np.asarray(color), np.asarray(shape), np.asarray(texture)).astype(np.float32)


def _legacy_vector(features: Features | FeatureDict) -> Doubles:
    return _legacy_vectors(_part(features, "color"), _part(features, "shape"), _part(features, "texture"))


def _legacy_vectors(color: npt.NDArray[Any], shape: npt.NDArray[Any], texture: npt.NDArray[Any]) -> Doubles:
    """Of one (d,) or many (N, d); so the following work along the last axis."""
    parts = (_histogram_vector(color, COLOR_POWER), _histogram_vector(texture, TEXTURE_POWER), _shape_vector(shape))
    weighted = zip((COLOR_WEIGHT, TEXTURE_WEIGHT, SHAPE_WEIGHT), parts, strict=True)
    return _unit(np.concatenate([np.sqrt(weight) * part for weight, part in weighted], axis=-1))


def _histogram_vector(stored: npt.NDArray[Any], power: float) -> Doubles:
    """Without its mean, so that a dot product is the correlation of two histograms, not their overlap.

    Two pictures that merely have many bins in common would otherwise already score high.
    """
    raised = (np.asarray(stored, dtype=np.float64) / 255) ** power
    return _unit(raised - raised.mean(axis=-1, keepdims=True))


def _shape_vector(stored: npt.NDArray[Any]) -> Doubles:
    """The seven log-scaled moments as points on a circle, (14,): a dot product is the mean cosine of their distances.

    Signs are left out: noise turns those of small moments over. A moment that vanishes says nothing.
    """
    moments = np.asarray(stored, dtype=np.float64)
    low, high = HU_RANGE
    angle = (np.clip(np.abs(moments) / HU_ORDERS, low, high) - low) / (high - low) * np.pi
    known = moments != 0
    return _unit(np.concatenate([np.cos(angle) * known, np.sin(angle) * known], axis=-1))


def _kind(features: Features | FeatureDict) -> Kind:
    return features.kind if isinstance(features, Features) else detect_feature_type(features["color_features"])


def _part(features: Features | FeatureDict, name: str) -> npt.NDArray[Any]:
    part: npt.NDArray[Any] = getattr(features, name) if isinstance(features, Features) else features[f"{name}_features"]
    return part


def _unit(vectors: npt.ArrayLike) -> Doubles:
    """Scaled to length 1; all zero where a vector is zero or has a value that is not finite."""
    values = np.asarray(vectors, dtype=np.float64)
    # By the largest value first, so that the squares of huge values do not overflow.
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    usable = np.isfinite(largest) & (largest > 0)
    scaled = np.divide(values, largest, out=np.zeros_like(values), where=usable)
    norms = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return np.asarray(np.divide(scaled, norms, out=scaled, where=usable))


def _score(first: Doubles, second: Doubles, kind: Kind = CLIP) -> float:
    return score_of(float(first @ second), kind)
