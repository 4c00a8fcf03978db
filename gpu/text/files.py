"""Find the text encoder that belongs to an image encoder, from files alone: the web process uses this too.

It is either the image encoder's own other half (CLIP, SigLIP), or the model that CLIP_TEXT_MODEL names: a
sentence-transformers text model that was trained into the same space, such as ``clip-ViT-B-32-multilingual-v1``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from gpu.encoders import weights
from gpu.encoders.folders import checked_weights
from gpu.encoders.model_files import Signature, Weights, WeightsError, file_signature, make_fingerprint, read_json

# A folder has one of these, or it has no tokenizer.
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_TEXT_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")


class TextUnavailableError(Exception):
    """Words cannot be searched. The message names the model and says why in one line."""

    code = "text_unavailable"


@dataclass(frozen=True, slots=True)
class TextModel:
    """A text encoder on disk.

    folder: where the tokenizer is. model_id: its name in caches and in the folder of exports. max_tokens: longer texts
    are cut. pads: whether every text is filled up to ``max_tokens``, as the model was trained. own: whether the weights
    are in the image encoder's files.
    """

    folder: Path
    model_id: str
    fingerprint: str
    signature: Signature
    max_tokens: int
    pads: bool
    lower: bool
    own: bool


def configured() -> str:
    """Return CLIP_TEXT_MODEL, or an empty text if the image encoder's own text encoder is used."""
    return str(settings.CLIP_CONFIG["text_model"])


def version(source: str | None = None) -> str:
    """Return what changes whenever the vectors of texts change. Needs no files of a model on the hub.

    ``source``: the image encoder (default: the configured one).
    """
    name, image = configured(), weights.model_id(source)
    if not name:
        return image
    text = weights.model_id(name) if not weights.is_local(name) else _local_id(name)
    return f"{image} {text}"


def find_text_model(source: str | None = None) -> TextModel:
    """Return the text encoder of the configured (or named) image encoder. Raises TextUnavailableError."""
    name = configured()
    try:
        return _separate(name) if name else _own(weights.find_weights(source))
    except WeightsError as error:
        raise TextUnavailableError(
            f"Words cannot be searched with {name or weights.model_id(source)}: {error}"
        ) from error


def check_text_model(name: str) -> TextModel:
    """Check the files of a separate text model. Raises WeightsError."""
    return _separate(name)


def has_no_text_encoder(source: str | None = None) -> str | None:
    """Return why words cannot be searched, as far as this process sees the model's files, else None."""
    try:
        if not configured():
            _own(weights.find_weights(source))
    except WeightsError:
        return None  # the worker may have what this process lacks
    except TextUnavailableError as error:
        return str(error)
    return None


def _own(image: Weights) -> TextModel:
    """Return the other half of the image encoder. Raises WeightsError and TextUnavailableError."""
    missing = TextUnavailableError(
        f"The model {image.model_id} has no text encoder, so it cannot search by words. Use a CLIP or SigLIP model, or "
        "set CLIP_TEXT_MODEL to a text model that was trained for it."
    )
    if image.format == "onnx":
        raise missing
    folder = image.folder
    if image.format == "sentence-transformers":
        folder /= str(read_json(folder / "modules.json")[0].get("path", ""))
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    if not isinstance(text, dict) or "vision_config" not in config:
        raise missing
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise TextUnavailableError(
            f"The model {image.model_id} has no tokenizer in its folder, so it cannot search by words."
        )
    pads = config.get("model_type") == "siglip"
    limit = _tokens(text.get("max_position_embeddings"), 64 if pads else 77)
    return TextModel(folder, image.model_id, image.fingerprint, image.signature, limit, pads, lower=False, own=True)


def _separate(name: str) -> TextModel:
    path = _folder(name)
    try:
        return _inspect(name, path, file_signature(p for p in path.rglob("*") if p.is_file()))
    except OSError as error:
        raise WeightsError(f"The model in {path} cannot be read: {error.strerror or error}.") from error


def configured_folder() -> Path:
    """Return the folder of CLIP_TEXT_MODEL. Raises WeightsError."""
    return _folder(configured())


def _folder(name: str) -> Path:
    if weights.is_local(name) and not Path(name).expanduser().is_dir():
        raise WeightsError(f"CLIP_TEXT_MODEL names the folder {name}, which does not exist.")
    return weights.model_path(name)


@functools.lru_cache(maxsize=4)
def _inspect(name: str, path: Path, signature: Signature) -> TextModel:
    """Check a sentence-transformers text model. Raises WeightsError."""
    modules = read_json(path / "modules.json")
    kinds = [_kind(module) for module in modules] if isinstance(modules, list) else []
    if len(kinds) < 2 or kinds[:2] != ["Transformer", "Pooling"] or not set(kinds) <= set(_TEXT_MODULES):
        raise WeightsError(f"{path / 'modules.json'} does not describe a text model with pooling.")
    folder = path / str(modules[0].get("path", ""))
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise WeightsError(f"The tokenizer is missing in {folder}.")
    parts = [path / str(module.get("path", "")) for module, kind in zip(modules, kinds, strict=True) if kind in _SIZED]
    files = [file for part in parts for file in checked_weights(part)]
    config = read_json(folder / "sentence_bert_config.json")
    config = config if isinstance(config, dict) else {}
    fingerprint = make_fingerprint([modules, read_json(folder / "config.json"), config], files)
    model_id = f"{path.name}@{fingerprint[:8]}" if weights.is_local(name) else weights.model_id(name)
    limit = _tokens(config.get("max_seq_length"), 128)
    lower = bool(config.get("do_lower_case"))
    return TextModel(folder, model_id, fingerprint, signature, limit, pads=False, lower=lower, own=False)


_SIZED = ("Transformer", "Dense")  # the modules that have weights


def _kind(module: Any) -> str:
    return str(module.get("type")).rpartition(".")[2] if isinstance(module, dict) else ""


def _tokens(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= 8192 else default


def _local_id(name: str) -> str:
    try:
        return _separate(name).model_id
    except WeightsError:
        return Path(name).name
