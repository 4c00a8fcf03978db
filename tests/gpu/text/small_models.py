"""Build small models with random weights: a text model in the layout of sentence-transformers, and image encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip


def build_text_model(folder: Path, dim: int) -> Path:
    """Write a text model like clip-ViT-B-32-multilingual-v1: DistilBERT, mean pooling and a projection."""
    import torch
    from safetensors.torch import save_file
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizer

    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = DistilBertConfig(
            vocab_size=len(SPECIAL + WORDS), dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=64
        )
        DistilBertModel(config).save_pretrained(folder)
        projection = torch.randn(dim, 32) / 6
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    DistilBertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    _write(
        folder / "modules.json",
        [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in enumerate(parts)
        ],
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    activation = "torch.nn.modules.linear.Identity"
    _write(
        folder / "2_Dense" / "config.json",
        {"in_features": 32, "out_features": dim, "bias": False, "activation_function": activation},
    )
    save_file({"linear.weight": projection}, folder / "2_Dense" / "model.safetensors")
    return folder


def turn_texts_to_images(clip: Path) -> None:
    """Turn the texts of a small CLIP to the side of its images. With its own random weights they all score 0."""
    from safetensors.numpy import load_file, save_file

    file = clip / "0_CLIPModel" / "model.safetensors"
    weights = load_file(file)
    weights["text_projection.weight"] = -weights["text_projection.weight"]
    save_file(weights, file, metadata={"format": "pt"})


def image_only_model(folder: Path) -> Path:
    """Write a DINOv2, which has no text encoder."""
    import torch
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Dinov2Model(Dinov2Config(**VISION)).save_pretrained(folder)
    size: dict[str, Any] = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
    BitImageProcessorPil(**size).save_pretrained(folder)
    return folder


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
