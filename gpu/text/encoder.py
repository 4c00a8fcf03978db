"""Encode texts with the model's text encoder, in ONNX Runtime or torch. Only workers load it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from django.conf import settings

from gpu.encoders import onnx, registry, selection, weights
from gpu.encoders.modules import sentence_encoder, text_encoder
from gpu.encoders.protocol import LoadError
from gpu.encoders.torch import load_text_model, load_two_towers
from gpu.text import files
from gpu.text.files import TextModel, TextUnavailableError
from gpu.vectors import Features

logger = logging.getLogger(__name__)

Tokens = npt.NDArray[np.int64]
_Run = Callable[[Tokens, Tokens], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class TextVector:
    """The vector of a text. ``cut_after``: the number of tokens that the model read, or None if it read them all."""

    features: Features
    cut_after: int | None


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A loaded text encoder. ``backend``: what runs it."""

    model: TextModel
    backend: str
    tokenizer: Any
    run: _Run

    def encode(self, text: str) -> tuple[npt.NDArray[np.float32], bool]:
        """Return the unit vector (dim,) of a text, and whether the text was cut at the model's limit."""
        text = text.strip().lower() if self.model.lower else text.strip()
        limit = self.max_tokens
        whole = len(self.tokenizer(text, verbose=False)["input_ids"])
        tokens = self.tokenizer(
            [text], padding="max_length" if self.model.pads else True, truncation=True, max_length=limit,
            return_tensors="np", return_attention_mask=True,
        )  # fmt: skip
        ids, mask = (np.asarray(tokens[name], np.int64) for name in ("input_ids", "attention_mask"))
        return np.asarray(self.run(ids, mask)[0], np.float32), whole > limit

    @property
    def max_tokens(self) -> int:
        return min(self.model.max_tokens, int(self.tokenizer.model_max_length))


_lock = threading.Lock()
_loaded: dict[str, tuple[object, TextEncoder]] = {}


def encode_text(text: str) -> TextVector:
    """Return the vector of a text in the space of the image encoder in use. Raises TextUnavailableError."""
    source = selection.source_in_use()
    status = registry.clip_status(source)
    if status.reason is not None:
        raise TextUnavailableError(f"Words cannot be searched with {status.model_name}: {status.reason}")
    encoder = get_text_encoder()
    vector, is_cut = encoder.encode(text)
    image = weights.find_weights(source)
    dim = image.embedding_dim or registry.get_encoder(source).dim
    if len(vector) != dim:
        raise TextUnavailableError(
            f"The text model {encoder.model.model_id} gives vectors of {len(vector)} numbers, but those of "
            f"{image.model_id} have {dim}. Set CLIP_TEXT_MODEL to a text model that was trained for it."
        )
    try:
        features = Features.from_embedding(vector, image.model_id)
    except ValueError as error:
        raise TextUnavailableError(f"The model {encoder.model.model_id} gave no usable vector: {error}.") from error
    return TextVector(features, encoder.max_tokens if is_cut else None)


def get_text_encoder() -> TextEncoder:
    """Return the text encoder of the model in use, loaded once per process. Raises TextUnavailableError."""
    model = files.find_text_model(selection.source_in_use())
    backend, path = _choose_backend(model)
    key = (model.signature, backend, path, path.stat().st_mtime_ns if path is not None else 0)
    with _lock:
        found = _loaded.get(model.model_id)
        if found is None or found[0] != key:
            _loaded.clear()
            try:
                found = (key, _load(model, backend, path))
            except (LoadError, registry.ClipUnavailableError) as error:
                raise TextUnavailableError(f"The text encoder of {model.model_id} cannot be used: {error}") from error
            _loaded[model.model_id] = found
        return found[1]


def unload() -> None:
    """Drop the text encoder. The next use reloads it."""
    with _lock:
        _loaded.clear()


def export_path(model: TextModel) -> Path | None:
    """Return the exported file of a separate text model, or None if there is no usable export."""
    found = onnx.find_export(model, "float32")
    return found.with_name(onnx.export_file_name("text", "float32")) if found is not None else None


def _choose_backend(model: TextModel) -> tuple[str, Path | None]:
    """Return what runs the text encoder: ONNX Runtime where it runs the image encoder and there is an export."""
    source = selection.source_in_use()
    backend = registry.clip_status(source).backend
    if not backend.startswith("onnx"):
        return "torch", None
    if not model.own:
        path = export_path(model)
        return ("onnx", path) if path is not None else ("torch", None)
    # What was measured to agree are vectors of images, so texts are INT8 only by choice.
    precision: onnx.Precision = "int8" if settings.CLIP_CONFIG["backend"] == "onnx-int8" else "float32"
    path = onnx.find_export(weights.find_weights(source), precision)
    if path is None:
        return "torch", None
    return backend, path.with_name(onnx.export_file_name("text", precision))


def _load(model: TextModel, backend: str, path: Path | None) -> TextEncoder:
    """Load the tokenizer and the weights. Raises LoadError and ClipUnavailableError."""
    tokenizer = load_tokenizer(model.folder)
    if path is not None:
        session = onnx.open_session(path)

        def run(ids: Tokens, mask: Tokens) -> npt.NDArray[np.float32]:
            return np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0], np.float32)

        logger.info("Loaded the text encoder of %s in ONNX Runtime (%s).", model.model_id, backend)
        return TextEncoder(model, backend, tokenizer, run)
    return TextEncoder(model, "torch", tokenizer, _torch_run(load_module(model)))


def load_module(model: TextModel, device: str | None = None) -> Any:
    """Return the text encoder as a torch module from token ids and mask to unit vectors. Raises LoadError."""
    if not model.own:
        return sentence_encoder(load_text_model(files.configured_folder(), device))
    source = selection.source_in_use()
    image = weights.find_weights(source)
    if image.format == "sentence-transformers":
        return text_encoder(registry.get_clip_model(source)[0].auto_model)
    return text_encoder(load_two_towers(image, device), use_mask=not model.pads)


def _torch_run(module: Any) -> _Run:
    import torch

    device = next(module.parameters()).device

    def run(ids: Tokens, mask: Tokens) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            vectors = module(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        return np.asarray(vectors.float().cpu().numpy())

    return run


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer. Raises LoadError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)  # nosec B615: local files
    except (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError, ImportError) as error:
        raise LoadError(f"Its tokenizer in {folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
