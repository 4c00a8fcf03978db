"""Preprocessed pixels equal those of the model's own image processor."""

from __future__ import annotations

import numpy as np
import pytest

from gpu.encoders import weights
from gpu.encoders.preprocess import Preprocess
from tests.helpers.sample_images import noise

SHAPES = [(224, 224), (348, 348), (348, 464), (464, 348), (100, 333), (1000, 17), (225, 224), (16, 800)]


@pytest.mark.parametrize("size", SHAPES, ids=str)
def test_pixels_equal_those_of_the_models_image_processor(size, with_clip):
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor.from_pretrained(with_clip / "0_CLIPModel")
    preprocess = weights.find_weights().preprocess
    image = noise(7, size)
    expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    scale, shift = preprocess.scale_and_shift()
    actual = (preprocess(image) * scale + shift).transpose(2, 0, 1)
    # One level of brightness is 0.0146 in these units, so this bound only allows float32 rounding.
    assert np.abs(actual - expected).max() < 1e-5


def test_old_and_new_size_options_mean_the_same():
    mean_and_std = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    old = Preprocess.from_config({"size": 224, "crop_size": 224, **mean_and_std})
    new = Preprocess.from_config(
        {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, **mean_and_std}
    )
    assert old == new


@pytest.mark.parametrize(
    "config",
    [{"do_resize": False}, {"size": {"height": 224, "width": 300}}, {"crop_size": 300}, {"image_mean": [0.5]}],
    ids=str,
)
def test_unsupported_image_processor_is_rejected(config):
    whole = {"size": 224, "crop_size": 224, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    with pytest.raises(ValueError, match="preprocessor"):
        Preprocess.from_config(whole | config)
