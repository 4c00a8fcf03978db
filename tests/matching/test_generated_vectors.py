"""Any bytes and any numbers: BLOBs come back as they were or are refused, and a score is always one from 0 to 100."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gpu.vectors import CLIP, COLOR_BINS, LEGACY, LEGACY_MODEL, SHAPE_DIM, TEXTURE_BINS, Features, Kind
from matching.similarity import (
    compute_batch_similarities,
    compute_clip_similarity,
    compute_similarity_mixed,
    score_of,
    search_vector,
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
def test_blobs_are_read_as_they_are_or_refused(kind: Kind, color: bytes, shape: bytes, texture: bytes) -> None:
    try:
        features = Features.from_blobs(kind, "model", color, shape, texture)
    except ValueError:
        assert (len(color) % 4 or not color or shape or texture) or kind == LEGACY
    else:
        assert features.to_blobs() == (color, shape, texture)


@quickly
@given(features=legacy | st.builds(Features.from_embedding, usable_embeddings, st.just("model")))
def test_features_come_back_from_their_blobs_and_from_a_message(features: Features) -> None:
    [again] = unpack(pack([features]))
    assert (again.kind, again.model_name, again.to_blobs()) == (
        features.kind,
        features.model_name,
        features.to_blobs(),
    )


@quickly
@given(embedding=embeddings)
def test_an_embedding_is_stored_with_length_one_or_not_at_all(embedding: np.ndarray) -> None:
    if np.isfinite(embedding).all() and embedding.any():
        assert np.linalg.norm(Features.from_embedding(embedding, "model").color) == pytest.approx(1, abs=1e-6)
    else:
        with pytest.raises(ValueError):
            Features.from_embedding(embedding, "model")


@quickly
@given(first=legacy, second=legacy)
def test_legacy_scores_lie_in_their_range_whatever_the_numbers(first: Features, second: Features) -> None:
    score = compute_similarity_mixed(first, second)
    assert 0 <= score <= 100
    assert compute_similarity_mixed(second, first) == pytest.approx(score)
    assert score == pytest.approx(score_of(float(search_vector(first) @ search_vector(second)), LEGACY), abs=1e-3)


@quickly
@given(data=st.data(), dim=dims)
def test_clip_scores_lie_in_their_range_and_are_those_of_the_batch(data: st.DataObject, dim: int) -> None:
    vectors = arrays.arrays(np.float32, dim, elements=any_float)
    query, catalogue = data.draw(vectors), data.draw(st.lists(vectors, min_size=1, max_size=4))
    scores = [compute_clip_similarity(query, vector) for vector in catalogue]
    assert all(0 <= score <= 100 for score in scores)
    assert compute_batch_similarities(query, np.stack(catalogue)) == pytest.approx(scores, abs=1e-6)


@quickly
@given(vector=usable_embeddings, scale=st.floats(1e-3, 1e3))
def test_an_embedding_is_as_like_itself_as_can_be_however_long(vector: np.ndarray, scale: float) -> None:
    assert compute_clip_similarity(vector, vector.astype(np.float64) * scale) == pytest.approx(100, abs=1e-3)
