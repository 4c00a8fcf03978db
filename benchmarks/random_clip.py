"""Write a CLIP with random weights in the hub's exact layout, for machines that cannot download the real one.

    python benchmarks/random_clip.py FOLDER [--size tiny|ViT-B-32] [--seed N]

The folder has the layout of the hub's ``clip-ViT-B-32``: ``modules.json`` names
``sentence_transformers.models.CLIPModel`` in ``0_CLIPModel/``, with configuration, tokenizer, preprocessor and
safetensors. ``ViT-B-32`` has the real architecture and the real cost. ``tiny`` has the same inputs and outputs
(224 pixels, 512 dimensions) and loads quickly. Similar images get similar vectors; they have no other meaning.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal

Size = Literal["tiny", "ViT-B-32"]

PROJECTION_DIM = 512

_VISION: dict[Size, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
    "ViT-B-32": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}
_TEXT: dict[Size, dict[str, int]] = {
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "ViT-B-32": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8},
}

# A copy of the hub's file, with its older spelling of sizes.
_PREPROCESSOR = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
_START, _END = "<|startoftext|>", "<|endoftext|>"


def build(folder: Path, size: Size = "tiny", seed: int = 0, pixels: int = 224) -> Path:
    """Write the model to ``folder``, created if needed, and return it. The same seed gives the same weights.

    ``pixels``: the side of its input, in 7 × 7 patches.
    """
    import torch
    from transformers import CLIPConfig, CLIPModel

    module = folder / "0_CLIPModel"
    module.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    config = CLIPConfig(
        projection_dim=PROJECTION_DIM,
        vision_config={"image_size": pixels, "patch_size": pixels // 7, **_VISION[size]},
        text_config={
            # The real size, where the cost counts. The byte-level vocabulary needs far fewer tokens.
            "vocab_size": 49408 if size == "ViT-B-32" else len(vocabulary),
            "max_position_embeddings": 77,
            "bos_token_id": vocabulary[_START],
            "eos_token_id": vocabulary[_END],
            "pad_token_id": vocabulary[_END],
            **_TEXT[size],
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = CLIPModel(config)
        model.eval()
        _amplify_patches(model)
    model.save_pretrained(module)
    _write_json(module / "preprocessor_config.json", {**_PREPROCESSOR, "size": pixels, "crop_size": pixels})
    _write_json(module / "vocab.json", vocabulary)
    (module / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokens = {"bos_token": _START, "eos_token": _END, "pad_token": _END, "unk_token": _END}
    _write_json(module / "special_tokens_map.json", tokens)
    _write_json(
        module / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **tokens}
    )
    clip = "sentence_transformers.models.CLIPModel"
    _write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": clip}])
    _write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.0.0"}})
    about = f"CLIP with the architecture of {size} and random weights (seed {seed}); its vectors have no meaning.\n"
    (folder / "README.md").write_text(about, encoding="utf-8")
    return folder


def _amplify_patches(model: Any) -> None:
    # With the usual initial weights the class token outweighs the patches, and all images look alike.
    import torch

    vision = model.vision_model
    with torch.no_grad():
        vision.embeddings.class_embedding.zero_()
        vision.embeddings.position_embedding.weight.mul_(0.1)
        vision.embeddings.patch_embedding.weight.mul_(4.0)
        for layer in vision.encoder.layers:
            layer.self_attn.v_proj.weight.mul_(4.0)
            layer.self_attn.out_proj.weight.mul_(4.0)


def _vocabulary() -> dict[str, int]:
    """Return each byte as a token, inside and at the end of a word, in GPT-2's printable spelling of bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = [chr(byte) for byte in printable]
    characters += [chr(256 + n) for n in range(256 - len(printable))]
    tokens = [*characters, *(character + "</w>" for character in characters), _START, _END]
    return {token: number for number, token in enumerate(tokens)}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="created if needed")
    parser.add_argument("--size", choices=["tiny", "ViT-B-32"], default="tiny", help="default: tiny")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    options = parser.parse_args()
    print(build(options.folder, options.size, options.seed))


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose http.py would hide the standard library's
    main()
