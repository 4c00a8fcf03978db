"""Scores of 0 to 100: the documented functions, and the dot product of search vectors behind them."""

import csv
import logging

import numpy as np
import pytest
from PIL import Image

from gpu.images import decode
from gpu.legacy import extract_legacy
from gpu.search_vectors import legacy_search_vectors, search_vector
from gpu.vectors import LEGACY_MODEL, Features
from matching.similarity import (
    compute_batch_similarities,
    compute_clip_similarity,
    compute_legacy_similarity,
    compute_similarity_mixed,
    score_of,
)
from tests.helpers.sample_images import drawing


def embedding(seed: int, dim: int = 512) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def legacy(seed: int) -> Features:
    return extract_legacy(drawing(seed))


def as_dict(features: Features) -> dict[str, np.ndarray]:
    return {
        "color_features": features.color,
        "shape_features": features.shape,
        "texture_features": features.texture,
    }


def test_clip_scores_are_the_cosine_as_percent():
    x, y = np.eye(512, dtype=np.float32)[:2]

    assert compute_clip_similarity(x, x) == 100
    assert compute_clip_similarity(x, y) == 0
    assert compute_clip_similarity(x, x + y) == pytest.approx(100 / np.sqrt(2))
    assert compute_clip_similarity(x, -x) == 0
    assert isinstance(compute_clip_similarity(x, x), float)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_length_of_an_embedding_does_not_change_its_score(scale):
    assert compute_clip_similarity(embedding(1) * np.float32(scale), embedding(1)) == pytest.approx(100)
    assert compute_batch_similarities(embedding(1), embedding(1)[None] * np.float32(scale)) == pytest.approx([100])


@pytest.mark.parametrize("invalid", [np.zeros(512), np.full(512, np.nan), np.full(512, np.inf)])
def test_zero_and_non_finite_vectors_score_zero_and_affect_no_other(invalid):
    valid = embedding(2)

    assert compute_clip_similarity(invalid, valid) == 0
    assert compute_clip_similarity(valid, invalid) == 0
    assert compute_clip_similarity(invalid, invalid) == 0
    assert compute_batch_similarities(invalid, np.stack([valid, invalid])).tolist() == [0, 0]
    assert compute_batch_similarities(valid, np.stack([invalid, valid])) == pytest.approx([0, 100])


def test_batch_gives_the_scores_of_each_pair():
    query, catalog = embedding(3), np.stack([embedding(seed) + embedding(3) for seed in range(40)])

    scores = compute_batch_similarities(query, catalog)

    assert scores.shape == (40,)
    assert scores == pytest.approx([compute_clip_similarity(query, row) for row in catalog])
    assert compute_batch_similarities(query, np.empty((0, 512))).shape == (0,)


def test_embeddings_of_different_models_raise_an_error():
    with pytest.raises(ValueError, match="cannot be compared"):
        compute_clip_similarity(embedding(1, 512), embedding(1, 768))
    with pytest.raises(ValueError, match="cannot be compared"):
        compute_batch_similarities(embedding(1, 512), np.zeros((3, 768)))


def test_legacy_score_is_symmetric_and_100_only_for_the_same_features():
    first, second = legacy(1), legacy(2)

    assert compute_legacy_similarity(first, first) == pytest.approx(100)
    assert compute_legacy_similarity(first, second) == compute_legacy_similarity(second, first)
    assert 0 <= compute_legacy_similarity(first, second) < 90
    assert compute_legacy_similarity(as_dict(first), as_dict(second)) == compute_legacy_similarity(first, second)


def test_colour_weighs_most_of_all_legacy_features():
    first, second = as_dict(legacy(1)), as_dict(legacy(2))
    lost = {part: 100 - compute_legacy_similarity(first, first | {part: second[part]}) for part in first}

    assert min(lost.values()) > 0
    assert max(lost, key=lambda part: lost[part]) == "color_features"


def test_empty_histograms_score_zero():
    nothing = Features(
        "legacy", LEGACY_MODEL, np.zeros(256, np.uint8), np.zeros(7, np.float32), np.zeros(256, np.uint8)
    )

    assert compute_legacy_similarity(nothing, legacy(1)) == 0
    assert compute_legacy_similarity(nothing, nothing) == 0


def test_nan_moment_removes_only_the_shape_score():
    broken = as_dict(legacy(1)) | {"shape_features": np.full(7, np.nan, np.float32)}

    assert 95 < compute_legacy_similarity(broken, legacy(1)) <= 100


@pytest.mark.parametrize("kind", ["clip", "legacy"])
def test_every_score_is_one_scaled_dot_product_of_search_vectors(kind):
    if kind == "legacy":
        features = [legacy(seed) for seed in range(6)]
    else:
        features = [Features.from_embedding(np.abs(embedding(seed)), "clip-ViT-B-32") for seed in range(6)]
    vectors = np.stack([search_vector(each) for each in features])

    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6))
    scores = [[score_of(dot, kind) for dot in row] for row in vectors @ vectors.T]
    expected = [[compute_similarity_mixed(a, b) for b in features] for a in features]
    assert np.array(scores) == pytest.approx(np.array(expected), abs=1e-3)


def test_legacy_score_starts_at_the_similarity_of_unrelated_images():
    assert [score_of(dot, "legacy") for dot in (-1, 0.5, 0.75, 1)] == pytest.approx([0, 0, 50, 100])
    assert [score_of(dot, "clip") for dot in (-1, 0, 0.75, 1)] == pytest.approx([0, 0, 75, 100])


def test_batch_gives_the_search_vector_of_each_legacy_feature():
    features = [legacy(seed) for seed in range(5)]
    stored = (np.stack([getattr(each, part) for each in features]) for part in ("color", "shape", "texture"))

    assert legacy_search_vectors(*stored) == pytest.approx(np.stack([search_vector(each) for each in features]))


def test_different_feature_types_score_zero_with_a_warning(caplog):
    clip_dict = {"color_features": embedding(1), "shape_features": np.array([]), "texture_features": np.array([])}

    with caplog.at_level(logging.WARNING):
        assert compute_similarity_mixed(clip_dict, as_dict(legacy(1))) == 0.0
        assert compute_similarity_mixed(legacy(1), Features.from_embedding(embedding(1), "clip-ViT-B-32")) == 0.0
    assert [record.message.count("cannot be compared") for record in caplog.records] == [1, 1]


def test_equal_feature_types_are_scored_by_their_own_function(caplog):
    first, second = legacy(1), legacy(2)
    clip_dict = {"color_features": embedding(1), "shape_features": np.array([]), "texture_features": np.array([])}

    assert compute_similarity_mixed(as_dict(first), second) == compute_legacy_similarity(first, second)
    assert compute_similarity_mixed(clip_dict, clip_dict) == pytest.approx(100)
    assert not caplog.records


def test_features_of_unknown_length_raise_an_error():
    with pytest.raises(ValueError, match="300"):
        compute_similarity_mixed({"color_features": np.ones(300)}, {"color_features": np.ones(300)})


@pytest.mark.shared_data
def test_real_images_find_their_product_among_others(shared_data):
    """Search with the last image of each product among the first four images of every product."""
    folder = shared_data / "grocery"
    with (folder / "views.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_sku: dict[str, list[str]] = {}
    for row in rows:
        by_sku.setdefault(row["sku"], []).append(row["image"])

    def vectors(names: list[str]) -> np.ndarray:
        images: list[Image.Image] = [decode(folder / name) for name in names]
        return np.stack([search_vector(extract_legacy(image)) for image in images])

    chosen = {sku: sorted(names) for sku, names in by_sku.items()}
    catalogue = {sku: vectors(names[:4]) for sku, names in chosen.items()}
    ranks = []
    for sku, names in chosen.items():
        (query_vector,) = vectors(names[-1:])
        best = {other: float((image_vectors @ query_vector).max()) for other, image_vectors in catalogue.items()}
        ranks.append(sum(score > best[sku] for score in best.values()))
    assert np.mean(np.array(ranks) < 1) > 0.4
    assert np.mean(np.array(ranks) < 5) > 0.65
