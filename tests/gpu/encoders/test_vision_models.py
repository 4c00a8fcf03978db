"""Vision models of transformers as CLIP_MODEL: vectors as their family means them, and refusals in one sentence."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest

from gpu import clip
from gpu.encoders import registry, weights
from tests.conftest import use_clip
from tests.helpers.sample_images import noise

SHAPES = [(64, 64), (90, 70), (70, 121), (300, 40)]
VISION: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": 64, "patch_size": 16}  # fmt: skip
TEXT: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
CROPPED: dict[str, Any] = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
SQUARE: dict[str, Any] = {"size": {"height": 64, "width": 64}}


def build(family, folder):
    """Write a small model with random weights and its image processor. Return the processor."""
    import torch
    import transformers as t

    models = {
        "clip": lambda: t.CLIPModel(t.CLIPConfig(projection_dim=24, vision_config=VISION, text_config=TEXT)),
        "clip-vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**VISION)),
        "clip-projection": lambda: t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(projection_dim=24, **VISION)),
        "metaclip-2": lambda: t.MetaClip2Model(
            t.MetaClip2Config(projection_dim=24, vision_config=VISION, text_config=TEXT)
        ),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(vision_config=VISION, text_config=TEXT)),
        "siglip-vision": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**VISION)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**VISION)),
        "dinov2-registers": lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**VISION)),
        "dinov3": lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**VISION)),
        "dinov3-convnext": lambda: t.DINOv3ConvNextModel(
            t.DINOv3ConvNextConfig(hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1])
        ),
    }
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models[family]().save_pretrained(folder)
    processors = {"clip": (CLIPImageProcessorPil, CROPPED), "metaclip": (CLIPImageProcessorPil, CROPPED),
                  "siglip": (SiglipImageProcessorPil, SQUARE), "dinov2": (BitImageProcessorPil, CROPPED)}  # fmt: skip
    # DINOv3's own processor needs torchvision. Its steps are those of SigLIP's, with other numbers.
    kind, sizes = processors.get(family.split("-")[0], (SiglipImageProcessorPil, SQUARE))
    processor = kind(**sizes)
    processor.save_pretrained(folder)
    return processor


FAMILIES = ["clip", "clip-vision", "clip-projection", "metaclip-2", "siglip", "siglip-vision", "dinov2",
            "dinov2-registers", "dinov3", "dinov3-convnext"]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_equal_those_of_transformers(family, settings, tmp_path):
    import torch
    import transformers

    folder = tmp_path / family
    processor = build(family, folder)
    use_clip(settings, folder, tmp_path / "cache")
    paths = []
    for number, size in enumerate(SHAPES):
        paths.append(tmp_path / f"{number}.png")
        noise(number, size).save(paths[-1])
    actual = np.stack([vector for vector in clip.process_batch(paths) if isinstance(vector, np.ndarray)])
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, name).from_pretrained(folder).eval()
    images = [noise(number, size) for number, size in enumerate(SHAPES)]
    pixels = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
    with torch.inference_mode():
        if hasattr(model, "get_image_features"):
            pooled = model.get_image_features(pixel_values=pixels).pooler_output
        else:
            output = model(pixel_values=pixels)
            pooled = output.image_embeds if name.endswith("WithProjection") else output.pooler_output
    expected = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    assert actual.shape == expected.shape == (4, weights.find_weights().embedding_dim)
    assert np.einsum("ij,ij->i", actual, expected).min() > 0.9999
    assert weights.model_id().startswith(f"{family}@")
    with pytest.raises(registry.ClipUnavailableError, match="vision model of transformers"):
        registry.get_clip_model()
    clip.unload()


@pytest.fixture
def siglip(settings, tmp_path):
    folder = tmp_path / "siglip"
    build("siglip", folder)
    use_clip(settings, folder, tmp_path / "cache")
    yield folder
    clip.unload()


def reason() -> str:
    with pytest.raises(registry.ClipUnavailableError) as caught:
        registry.get_encoder()
    assert "\n" not in str(caught.value)
    assert not registry.is_clip_available()
    return str(caught.value)


def change(file, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "bert"}, "its model_type is 'bert'"),
        ({"model_type": ["siglip"]}, "does not describe an image encoder"),
        ({"model_type": "siglip2"}, "NaFlex"),
        ({"vision_config": {**VISION, "hidden_size": 48}}, "cannot be loaded"),
        ({"vision_config": {**VISION, "hidden_size": "32"}}, "its vision_config.hidden_size is '32'"),
        ({"vision_config": {**VISION, "num_hidden_layers": 3}}, "its weights lack"),
        ({"vision_config": {**VISION, "image_size": 128}}, "cannot be loaded"),
        ({"vision_config": {**VISION, "vision_use_head": False}}, "cannot encode"),
    ],
    ids=str,
)
def test_folder_with_a_wrong_config_is_refused(changes, sentence, siglip):
    change(siglip / "config.json", **changes)
    assert sentence in reason()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": {"height": 32, "width": 64}}, "square of fixed size"),
        ({"size": {"height": 96, "width": 96}}, "cannot encode images of 96 pixels"),
        ({"image_mean": [0.5]}, "three colours"),
        ({"image_std": 0.5}, "cannot be used"),
        ({"rescale_factor": 1.0}, "rescales"),
        ({"resample": 17}, "cannot be used"),
    ],
    ids=str,
)
def test_folder_with_a_wrong_image_processor_is_refused(changes, sentence, siglip):
    change(siglip / "preprocessor_config.json", **changes)
    assert sentence in reason()


def test_nan_weights_and_missing_files_are_refused(siglip):
    import torch
    from safetensors.torch import load_file, save_file

    file = siglip / "model.safetensors"
    tensors = load_file(file)
    tensors["vision_model.post_layernorm.weight"] = torch.full((32,), torch.nan)
    save_file(tensors, file, {"format": "pt"})
    assert "zero or not finite" in reason()
    file.write_bytes(file.read_bytes()[:-4])
    assert "damaged or truncated" in reason()
    file.unlink()
    assert "model.safetensors is missing" in reason()
    (siglip / "config.json").unlink()
    assert "modules.json and config.json are missing" in reason()


def test_weights_in_several_files_are_loaded_and_checked(siglip):
    import transformers

    model = transformers.SiglipModel.from_pretrained(siglip)
    (siglip / "model.safetensors").unlink()
    model.save_pretrained(siglip, max_shard_size="20KB")
    shards = sorted(siglip.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert registry.get_encoder().dim == 32
    shards[-1].unlink()
    assert shards[-1].name in reason()


def test_hub_name_of_another_owner_is_found_in_the_cache(siglip, settings, tmp_path):
    cached = tmp_path / "cache" / "models--google--siglip-tiny"
    shutil.copytree(siglip, cached / "snapshots" / "0123abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abc")
    use_clip(settings, "google/siglip-tiny", tmp_path / "cache")
    assert weights.model_id() == "google/siglip-tiny"
    assert registry.get_encoder().dim == 32


def test_deeper_sentence_transformer_than_its_weights_is_refused(own_clip, settings, tmp_path):
    use_clip(settings, own_clip, tmp_path / "cache")
    config = own_clip / "0_CLIPModel" / "config.json"
    content = json.loads(config.read_text())
    content["vision_config"]["num_hidden_layers"] = 3
    config.write_text(json.dumps(content))
    assert "its weights lack" in reason()
