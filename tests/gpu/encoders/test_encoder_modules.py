"""The image encoder gives the vectors of transformers, and computes only the class token in the last layer."""

from __future__ import annotations

import numpy as np
import pytest

from gpu.encoders import weights
from gpu.encoders.modules import image_encoder


@pytest.fixture
def clip(with_clip):
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(with_clip / "0_CLIPModel").eval()


def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)


def of_the_library(clip, dtype=None):
    import torch

    scale, shift = weights.find_weights().preprocess.scale_and_shift()
    values = torch.from_numpy((pixels() * scale + shift).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        features = clip.get_image_features(pixel_values=values.to(dtype or torch.float32)).pooler_output
        return torch.nn.functional.normalize(features.float(), dim=-1).numpy()


def of_the_tower(clip):
    import torch

    with torch.inference_mode():
        return image_encoder(clip, weights.find_weights().preprocess)(torch.from_numpy(pixels())).numpy()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_vectors_equal_those_of_transformers(attention, clip):
    clip.set_attn_implementation(attention)
    assert np.einsum("ij,ij->i", of_the_tower(clip), of_the_library(clip)).min() >= 0.99999


def test_half_precision_vectors_stay_close(clip):
    import torch

    expected = of_the_library(clip)
    clip.to(torch.float16)
    assert of_the_tower(clip).dtype == np.float32
    assert np.einsum("ij,ij->i", of_the_tower(clip), expected).min() >= 0.999


def test_last_layer_computes_only_the_class_token(clip):
    widths = []
    for layer in clip.vision_model.encoder.layers:
        layer.mlp.register_forward_hook(lambda module, inputs, output: widths.append(output.shape[1]))
    of_the_tower(clip)
    assert widths == [50, 1]


def test_model_of_another_architecture_is_run_by_transformers(clip, monkeypatch):
    expected = of_the_library(clip)
    last = clip.vision_model.encoder.layers[-1]
    monkeypatch.setattr(type(last), "forward", _with_renamed_norm)
    last.first_norm = last.layer_norm1
    del last.layer_norm1
    assert np.einsum("ij,ij->i", of_the_tower(clip), expected).min() >= 0.99999


def _with_renamed_norm(self, hidden_states, attention_mask=None, **kwargs):
    norm = self.first_norm if hasattr(self, "first_norm") else self.layer_norm1
    seen, _ = self.self_attn(norm(hidden_states), attention_mask, **kwargs)
    hidden_states = hidden_states + seen
    return hidden_states + self.mlp(self.layer_norm2(hidden_states))
