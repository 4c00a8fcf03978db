"""Features with random bytes and numbers: stored unchanged or rejected, with scores from 0 to 100."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gpu.search_vectors import search_vector
from gpu.vectors import CLIP, COLOR_BINS, LEGACY, LEGACY_MODEL, SHAPE_DIM, TEXTURE_BINS, Features, Kind
from matching.similarity import (
    compute_batch_similarities,
    compute_clip_similarity,
    compute_similarity_mixed,
    score_of,
)
from products.queue.query_features import pack, unpack

quickly = settings(max_examples=100, deadline=None)

any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
dims = st.integers(1, 40)
embeddings = dims.flatmap(lambda dim: arrays.arrays(np.float32, dim, elements=any_float))
usable_embeddings = embeddings.filter(lambda vector: np.isfinite(vector).all() and vector.any())
legacy = st.builds(
    Features,
    kind=st.just(LEGACY),
    model_name=st.just(LEGACY_MODEL),
    color=arrays.arrays(np.uint8, COLOR_BINS),
    shape=arrays.arrays(np.float32, SHAPE_DIM, elements=any_float),
    texture=arrays.arrays(np.uint8, TEXTURE_BINS),
)
blob = st.binary(max_size=40) | st.sampled_from([bytes(COLOR_BINS), bytes(4 * SHAPE_DIM), bytes(2048)])


@quickly
@given(kind=st.sampled_from([CLIP, LEGACY]), color=blob, shape=blob, texture=blob)
def test_blobs_are_read_unchanged_or_rejected(kind: Kind, color: bytes, shape: bytes, texture: bytes) -> None:
    try:
        features = Features.from_blobs(kind, "model", color, shape, texture)
    except ValueError:
        assert (len(color) % 4 or not color or shape or texture) or kind == LEGACY
    else:
        assert features.to_blobs() == (color, shape, texture)


@quickly
@given(features=legacy | st.builds(Features.from_embedding, usable_embeddings, st.just("model")))
def test_features_survive_storage_and_messages(features: Features) -> None:
    [again] = unpack(pack([features]))
    assert (again.kind, again.model_name, again.to_blobs()) == (
        features.kind,
        features.model_name,
        features.to_blobs(),
    )


@quickly
@given(embedding=embeddings)
def test_embedding_is_stored_with_unit_length_or_rejected(embedding: np.ndarray) -> None:
    if np.isfinite(embedding).all() and embedding.any():
        assert np.linalg.norm(Features.from_embedding(embedding, "model").color) == pytest.approx(1, abs=1e-6)
    else:
        with pytest.raises(ValueError):
            Features.from_embedding(embedding, "model")


@quickly
@given(first=legacy, second=legacy)
def test_legacy_scores_stay_within_0_and_100_for_any_numbers(first: Features, second: Features) -> None:
    score = compute_similarity_mixed(first, second)
    assert 0 <= score <= 100
    assert compute_similarity_mixed(second, first) == pytest.approx(score)
    assert score == pytest.approx(score_of(float(search_vector(first) @ search_vector(second)), LEGACY), abs=1e-3)


@quickly
@given(data=st.data(), dim=dims)
def test_clip_scores_stay_within_0_and_100_and_equal_those_of_the_batch(data: st.DataObject, dim: int) -> None:
    vectors = arrays.arrays(np.float32, dim, elements=any_float)
    query, catalogue = data.draw(vectors), data.draw(st.lists(vectors, min_size=1, max_size=4))
    scores = [compute_clip_similarity(query, vector) for vector in catalogue]
    assert all(0 <= score <= 100 for score in scores)
    assert compute_batch_similarities(query, np.stack(catalogue)) == pytest.approx(scores, abs=1e-6)


@quickly
@given(vector=usable_embeddings, scale=st.floats(1e-3, 1e3))
def test_embedding_scores_100_with_itself_at_any_length(vector: np.ndarray, scale: float) -> None:
    assert compute_clip_similarity(vector, vector.astype(np.float64) * scale) == pytest.approx(100, abs=1e-3)
