"""Models on disk: which are complete, the reasons for the others, and the model name of their vectors."""

from __future__ import annotations

import json
import shutil

import pytest

from gpu.encoders import registry, weights
from tests.conftest import use_clip


def reason(settings, folder, tmp_path) -> str:
    use_clip(settings, folder, tmp_path / "cache")
    status = registry.clip_status()
    assert not status.available
    assert status.reason is not None
    assert "\n" not in status.reason
    return status.reason


@pytest.mark.parametrize(
    "missing",
    ["modules.json", "0_CLIPModel/config.json", "0_CLIPModel/preprocessor_config.json", "0_CLIPModel/vocab.json",
     "0_CLIPModel/model.safetensors"],
)  # fmt: skip
def test_missing_file_of_a_model_is_named(missing, own_clip, settings, tmp_path):
    (own_clip / missing).unlink()
    reason_text = reason(settings, own_clip, tmp_path)
    assert missing in reason_text
    assert "missing" in reason_text


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.5, 0.99999])
def test_truncated_weights_are_found_without_loading_them(share, own_clip, settings, tmp_path):
    file = own_clip / "0_CLIPModel" / "model.safetensors"
    with file.open("r+b") as handle:
        handle.truncate(int(file.stat().st_size * share))
    assert "model.safetensors is damaged or truncated" in reason(settings, own_clip, tmp_path)


@pytest.mark.parametrize("file", ["modules.json", "0_CLIPModel/config.json"])
def test_damaged_config_file_is_named(file, own_clip, settings, tmp_path):
    (own_clip / file).write_text('{"half": ')
    assert f"{file} is damaged" in reason(settings, own_clip, tmp_path)


def test_model_that_is_not_clip_is_rejected(own_clip, settings, tmp_path):
    (own_clip / "0_CLIPModel" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "does not describe a CLIP model" in reason(settings, own_clip, tmp_path)


def test_missing_folder_and_uncached_weights_have_different_reasons(settings, tmp_path):
    assert "does not exist" in reason(settings, tmp_path / "nowhere", tmp_path)
    assert "download_model" in reason(settings, "clip-ViT-B-32", tmp_path)
    assert registry.clip_status().embedding_dim == 512


def test_hub_model_is_found_in_the_cache_layout_of_the_hub(tiny_clip, settings, tmp_path):
    use_clip(settings, "clip-ViT-B-32", tmp_path)
    cached = tmp_path / "models--sentence-transformers--clip-ViT-B-32"
    shutil.copytree(tiny_clip, cached / "snapshots" / "0123abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abc")
    assert weights.find_weights().folder == cached / "snapshots" / "0123abc"
    assert weights.model_id() == "clip-ViT-B-32"
    assert weights.model_id("sentence-transformers/clip-ViT-B-32") == "clip-ViT-B-32"
    assert registry.is_clip_available()


def test_name_of_a_local_model_changes_with_its_weights(own_clip, settings, tmp_path):
    use_clip(settings, own_clip, tmp_path / "cache")
    before = weights.model_id()
    moved = own_clip.rename(own_clip.with_name("moved"))
    use_clip(settings, moved, tmp_path / "cache")
    assert weights.model_id() == before.replace("clip@", "moved@")
    file = moved / "0_CLIPModel" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights.model_id() != before.replace("clip@", "moved@")
    assert weights.model_id().startswith("moved@")
