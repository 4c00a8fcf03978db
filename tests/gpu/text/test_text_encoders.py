"""Text encoders give the vectors that their own libraries give, whatever the layout of the model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pytest_django import Settings

from gpu.encoders import downloads, registry
from gpu.text import encoder, files
from gpu.text.files import TextUnavailableError
from tests.conftest import use_clip
from tests.gpu.text.small_models import VISION, build_text_model


@pytest.fixture(autouse=True)
def _unloaded() -> None:
    encoder.unload()


def test_clip_of_transformers_encodes_texts_like_sentence_transformers(
    with_clip: Path, settings: Settings, tmp_path: Path
) -> None:
    expected = registry.get_clip_model().encode(["a red mug"], normalize_embeddings=True)[0]
    plain = Path(shutil.copytree(with_clip / "0_CLIPModel", tmp_path / "plain"))
    use_clip(settings, plain, tmp_path / "cache")
    found = encoder.encode_text("a red mug").features
    assert found.model_name.startswith("plain@")
    np.testing.assert_allclose(found.color, expected, atol=1e-5)


def test_siglip_fills_every_text_and_uses_no_mask(settings: Settings, tmp_path: Path) -> None:
    folder = build_siglip(tmp_path / "siglip")
    use_clip(settings, folder, tmp_path / "cache")
    from transformers import AutoTokenizer, SiglipModel

    tokens = AutoTokenizer.from_pretrained(folder)(
        ["red mug"], padding="max_length", max_length=16, return_tensors="pt"
    )
    expected = SiglipModel.from_pretrained(folder).eval().get_text_features(input_ids=tokens["input_ids"])
    vector = getattr(expected, "pooler_output", expected)[0].detach().numpy()
    found = encoder.encode_text("red mug")
    np.testing.assert_allclose(found.features.color, vector / np.linalg.norm(vector), atol=1e-5)
    assert found.cut_after is None
    assert encoder.encode_text("red mug " * 20).cut_after == 16


def test_model_without_its_tokenizer_is_named(settings: Settings, tmp_path: Path) -> None:
    folder = build_siglip(tmp_path / "siglip")
    (folder / "tokenizer.json").unlink()
    use_clip(settings, folder, tmp_path / "cache")
    with pytest.raises(TextUnavailableError, match=r"The model siglip@\w+ has no tokenizer"):
        encoder.encode_text("mug")


def test_version_changes_with_either_model(with_clip: Path, settings: Settings, tmp_path: Path) -> None:
    versions = {files.version()}
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"text_model": str(build_text_model(tmp_path / "words", dim=512))}
    versions.add(files.version())
    use_clip(settings, build_siglip(tmp_path / "siglip"), tmp_path / "cache")
    versions.add(files.version())
    assert len(versions) == 3


def test_text_model_is_checked_like_a_download(tmp_path: Path) -> None:
    folder = build_text_model(tmp_path / "words", dim=24)
    assert downloads.download_text_model(str(folder)).max_tokens == 32
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(downloads.DownloadError, match=r"2_Dense/model\.safetensors is missing"):
        downloads.download_text_model(str(folder))


def build_siglip(folder: Path) -> Path:
    """Write a small SigLIP with a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 8, "max_position_embeddings": 16, "projection_size": 32, "pad_token_id": 0,
            "bos_token_id": 1, "eos_token_id": 1}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        SiglipModel(SiglipConfig(vision_config=VISION, text_config=text)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[END]": 1, "[UNK]": 2, "red": 3, "mug": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    ).save_pretrained(folder)
    return folder
