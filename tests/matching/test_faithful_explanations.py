"""Heat maps show what the similarity of two images rests on, as far as a model with random weights can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.explanations import grey_out, measure
from gpu.encoders import registry, tokens
from gpu.encoders.tokens import Patches
from gpu.explain import heat_maps
from gpu.images import decode
from tests.helpers.sample_images import jpeg


def test_greying_the_hottest_quarter_costs_more_than_greying_a_random_one(with_clip: Path) -> None:
    tokens.unload()
    preprocess = registry.get_encoder().preprocess
    images = [[preprocess(decode(jpeg(n, angle=angle))) for angle in (0, 5)] for n in range(12)]
    found = measure((first, second) for first, second in images)
    assert found.pairs == 12
    assert found.hottest > 1.5 * found.random > 0


def test_only_the_chosen_cells_become_grey() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    cells = np.zeros((4, 4), bool)
    cells[1, 2] = True
    grey = grey_out(pixels, cells)
    assert (grey[16:32, 32:48] == (124, 116, 104)).all()
    grey[16:32, 32:48] = 0
    assert not grey.any()


@pytest.mark.parametrize("fit", ["mean", "unrelated"])
def test_heat_is_between_zero_and_one(fit: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 36, 48)).astype(np.float32)
    embedding = vectors.mean(axis=1) if fit == "mean" else np.ones((2, 48), np.float32)
    heats = heat_maps(*(Patches(one, vector, 6, 6) for one, vector in zip(vectors, embedding, strict=True)))
    for heat in heats:
        assert heat.shape == (6, 6)
        assert heat.min() >= 0
        assert heat.max() == 1
