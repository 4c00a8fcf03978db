"""The encoder of this process: whether CLIP is available, and loading the model once."""

from __future__ import annotations

import gc
import importlib.util
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from django.conf import settings

from gpu.device import empty_cache, likely_device
from gpu.encoders import downloads, onnx, weights
from gpu.encoders.protocol import Encoder, LoadError, monotonic_seconds
from gpu.encoders.torch import TorchEncoder, load_torch
from gpu.encoders.weights import Weights, WeightsError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


class ClipUnavailableError(Exception):
    """CLIP is not available. The message says why in one line."""

    code = "clip_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClipStatus:
    """Whether CLIP is available in this process. ``reason`` says why not."""

    available: bool
    reason: str | None
    model_name: str
    embedding_dim: int | None
    weights_cached: bool
    cache_size_mb: float
    backend: str


BACKENDS = ("auto", "torch", "onnx", "onnx-int8")

_lock = threading.RLock()
_model: tuple[tuple[object, ...], SentenceTransformer] | None = None
_encoder: tuple[tuple[object, ...], Encoder] | None = None
_failure: tuple[tuple[object, ...], str] | None = None


def clip_status() -> ClipStatus:
    """Return whether CLIP is available, from the installed packages and model files.

    Does not import torch.
    """
    name, backend = settings.CLIP_CONFIG["model_name"], settings.CLIP_CONFIG["backend"]
    try:
        model_weights = weights.find_weights()
    except WeightsError as error:
        tried = downloads.last_failure(name)
        reason = f"{error} The last attempt: {tried}" if tried else str(error)
        return ClipStatus(False, reason, name, weights.known_dim(name), False, 0.0, _choose_backend(None)[0])
    used, _ = _choose_backend(model_weights)
    problem = None
    if backend not in BACKENDS:
        problem = f"CLIP_BACKEND is {backend!r}. It must be one of {', '.join(BACKENDS)}."
    elif (missing := _missing_package(used)) is not None:
        problem = f"The Python package {missing} is not installed."
    elif _failure is not None and _failure[0] == _cache_key(model_weights):
        problem = _failure[1]
    return ClipStatus(problem is None, problem, name, model_weights.embedding_dim, True, model_weights.size_mb, used)


def is_clip_available() -> bool:
    """Return whether CLIP is available.

    Costs a few stat() calls. A failed load counts until the files change.
    """
    return clip_status().available


def get_clip_model() -> SentenceTransformer:
    """Return the model, loaded once per process.

    Never downloads. Raises ClipUnavailableError.
    """
    global _model
    with _lock:
        model_weights = _require_weights()
        if _model is None or _model[0] != _cache_key(model_weights):
            with _cache_load_failure(model_weights):
                _model = (_cache_key(model_weights), load_torch(model_weights))
        return _model[1]


def get_encoder() -> Encoder:
    """Return the image encoder, loaded and warmed up once per process.

    Raises ClipUnavailableError.
    """
    global _encoder
    with _lock:
        model_weights = _require_weights()
        if _encoder is None or _encoder[0] != _cache_key(model_weights):
            _encoder = None  # free the old one first: both may not fit into memory
            encoder = _load_encoder(model_weights)
            blank = np.zeros((model_weights.preprocess.crop, model_weights.preprocess.crop, 3), np.uint8)
            encoder.start([blank])()  # warm up: the first batch also pays for allocations and kernels
            _encoder = (_cache_key(model_weights), encoder)
        return _encoder[1]


def idle_seconds() -> float | None:
    """Return the seconds since the encoder was last used, or None if none is loaded."""
    return monotonic_seconds() - _encoder[1].used_at if _encoder is not None else None


def unload() -> None:
    """Drop the model. Its memory is free once no batch uses it. The next use reloads it."""
    global _model, _encoder
    with _lock:
        _model = _encoder = None
        gc.collect()
        empty_cache()


def _require_weights() -> Weights:
    status = clip_status()
    if status.reason is not None:
        raise ClipUnavailableError(status.reason)
    return weights.find_weights()


def _missing_package(backend: str) -> str | None:
    packages = ("torch", "transformers", "sentence_transformers") if backend == "torch" else ("onnxruntime",)
    return next((package for package in packages if importlib.util.find_spec(package) is None), None)


def _choose_backend(model_weights: Weights | None) -> tuple[str, Path | None]:
    """Return the backend to use, and the exported file for ONNX.

    ``auto`` means exported ONNX float32 on a CPU, otherwise torch. An ONNX backend without an export falls back to
    torch, which computes the same vectors.
    """
    configured = settings.CLIP_CONFIG["backend"]
    if model_weights is not None and (configured == "onnx" or (configured == "auto" and likely_device()[0] == "cpu")):
        path = onnx.find_export(model_weights, "float32")
        return ("onnx", path) if path is not None else ("torch", None)
    if model_weights is not None and configured == "onnx-int8":
        path = onnx.find_export(model_weights, "int8")
        return ("onnx-int8", path) if path is not None else ("torch", None)
    return "torch", None


def _cache_key(model_weights: Weights) -> tuple[object, ...]:
    """Return what must not change while a loaded model stays in use."""
    backend, path = _choose_backend(model_weights)
    made = path.stat().st_mtime_ns if path is not None else 0
    return (model_weights.signature, settings.CLIP_CONFIG["force_cpu"], backend, made)


def _load_encoder(model_weights: Weights) -> Encoder:
    backend, path = _choose_backend(model_weights)
    if path is None:
        configured = settings.CLIP_CONFIG["backend"]
        if configured.startswith("onnx"):
            logger.warning("CLIP_BACKEND is %s, but there is no export: using torch. Run 'export_onnx'.", configured)
        return TorchEncoder(get_clip_model(), model_weights.preprocess)
    with _cache_load_failure(model_weights):
        encoder = onnx.OnnxEncoder(path, "float32" if backend == "onnx" else "int8", model_weights)
    logger.info("Loaded %s in ONNX Runtime (%s).", model_weights.model_id, backend)
    return encoder


@contextmanager
def _cache_load_failure(model_weights: Weights) -> Iterator[None]:
    """Remember a failed load, so that it is not tried again before the files change."""
    global _failure
    try:
        yield
    except LoadError as error:
        _failure = (_cache_key(model_weights), str(error))
        logger.exception("Loading CLIP failed")
        raise ClipUnavailableError(str(error)) from error
