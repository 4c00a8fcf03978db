"""Similarity scores of images, 0 to 100: the dot product of two search vectors, scaled by their kind."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from gpu.search_vectors import Doubles, FeatureDict, feature_part, legacy_vector, unit
from gpu.vectors import CLIP, LEGACY, Features, Kind, detect_feature_type

logger = logging.getLogger(__name__)

# Histograms of unrelated images correlate too, so a legacy score is 0 up to this dot product. A legacy score of 50, the
# default threshold, is reached by the true product in 95 of 100 cases, but not by the median wrong one.
LEGACY_FLOOR = 0.5


def compute_clip_similarity(embedding1: npt.ArrayLike, embedding2: npt.ArrayLike) -> float:
    """Return the cosine similarity of two embeddings (d,) as a score 0 to 100.

    A zero vector, or one with a value that is not finite, scores 0. Raises ValueError for different lengths.
    """
    first, second = unit(embedding1), unit(embedding2)
    if first.shape != second.shape:
        raise ValueError(f"embeddings of {first.shape} and {second.shape} cannot be compared")
    return _score(first, second)


def compute_batch_similarities(query_embedding: npt.ArrayLike, catalog_embeddings: npt.ArrayLike) -> Doubles:
    """Return the scores (N,), 0 to 100, of one query (d,) against a catalogue (N, d).

    Otherwise works as ``compute_clip_similarity``.
    """
    query = unit(query_embedding)
    catalog = np.asarray(catalog_embeddings, dtype=np.float64)
    if catalog.ndim != 2 or catalog.shape[1:] != query.shape:
        raise ValueError(f"a query of {query.shape} cannot be compared with a catalogue of {catalog.shape}")
    return np.clip(100 * (unit(catalog) @ query), 0, 100)


def compute_legacy_similarity(features1: Features | FeatureDict, features2: Features | FeatureDict) -> float:
    """Return the score 0 to 100 of two legacy features.

    It is the dot product of their search vectors, scaled from LEGACY_FLOOR up. Takes Features, or a dictionary with
    ``color_features``, ``shape_features`` and ``texture_features``.
    """
    return _score(legacy_vector(features1), legacy_vector(features2), LEGACY)


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
    return compute_clip_similarity(feature_part(features1, "color"), feature_part(features2, "color"))


def score_of(dot: float, kind: str, floor: float | None = None) -> float:
    """Return the score 0 to 100 of a dot product of two search vectors of one kind.

    A higher dot product never has a lower score. ``floor`` is the dot product of a score of 0; None takes that of the
    kind.
    """
    if floor is None:
        floor = LEGACY_FLOOR if kind == LEGACY else 0.0
    share = (dot - floor) / (1 - floor)
    return float(min(max(100 * share, 0.0), 100.0))


def _kind(features: Features | FeatureDict) -> Kind:
    return features.kind if isinstance(features, Features) else detect_feature_type(features["color_features"])


def _score(first: Doubles, second: Doubles, kind: Kind = CLIP) -> float:
    return score_of(float(first @ second), kind)
