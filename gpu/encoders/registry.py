"""The encoders of this process: whether one is available, and loading each once."""

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

from gpu.device import DeviceInfo, describe_device, empty_cache, likely_device
from gpu.encoders import downloads, onnx, weights
from gpu.encoders.modules import image_encoder
from gpu.encoders.protocol import DeviceMemoryError, Encoder, LoadError, monotonic_seconds
from gpu.encoders.torch import TorchEncoder, load_torch, load_vision_model
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
    """Whether an encoder is available in this process. ``reason`` says why not."""

    available: bool
    reason: str | None
    model_name: str
    embedding_dim: int | None
    weights_cached: bool
    cache_size_mb: float
    backend: str


BACKENDS = ("auto", "torch", "onnx", "onnx-int8")

# Loaded encoders and models, and failed loads, by the name of the model. Each has the key of what it was loaded from.
_lock = threading.RLock()
_models: dict[str, tuple[tuple[object, ...], SentenceTransformer]] = {}
_encoders: dict[str, tuple[tuple[object, ...], Encoder]] = {}
_failures: dict[str, tuple[tuple[object, ...], str]] = {}


def clip_status(name: str | None = None) -> ClipStatus:
    """Return whether the configured (or named) encoder is available, from installed packages and files.

    Does not import torch.
    """
    name, backend = _full_name(name), settings.CLIP_CONFIG["backend"]
    try:
        model_weights = weights.find_weights(name)
    except WeightsError as error:
        tried = downloads.last_failure(name)
        reason = f"{error} The last attempt: {tried}" if tried else str(error)
        used = "onnx" if weights.is_onnx_file(name) else _choose_backend(None)[0]
        return ClipStatus(False, reason, name, weights.known_dim(name), False, 0.0, used)
    used, _ = _choose_backend(model_weights)
    key = _cache_key(model_weights)
    failure, loaded = _failures.get(name), _encoders.get(name)
    problem = None
    if backend not in BACKENDS:
        problem = f"CLIP_BACKEND is {backend!r}. It must be one of {', '.join(BACKENDS)}."
    elif (missing := _missing_package(used, model_weights)) is not None:
        problem = f"The Python package {missing} is not installed."
    elif failure is not None and failure[0] == key:
        problem = failure[1]
    dim = model_weights.embedding_dim
    if dim is None and loaded is not None and loaded[0] == key:
        dim = loaded[1].dim
    return ClipStatus(problem is None, problem, name, dim, True, model_weights.size_mb, used)


def is_clip_available(name: str | None = None) -> bool:
    """Return whether the configured (or named) encoder is available.

    Costs a few stat() calls. A failed load counts until the files change.
    """
    return clip_status(name).available


def get_clip_model(name: str | None = None) -> SentenceTransformer:
    """Return the configured (or named) model, loaded once per process.

    Never downloads. Raises ClipUnavailableError, also if it is no sentence-transformers model.
    """
    name = _full_name(name)
    model_weights = _require_weights(name)
    if model_weights.format != "sentence-transformers":
        kind = "an ONNX file" if model_weights.format == "onnx" else "a vision model of transformers"
        raise ClipUnavailableError(
            f"{model_weights.model_id} is {kind}, not a sentence-transformers model. get_encoder() returns it."
        )
    with _lock:
        return _load_model(name, model_weights)


def get_encoder(name: str | None = None) -> Encoder:
    """Return the configured (or named) image encoder, loaded and warmed up once per process.

    Raises ClipUnavailableError. Several encoders stay loaded side by side.
    """
    name = _full_name(name)
    model_weights = _require_weights(name)
    key = _cache_key(model_weights)
    # Without the lock, so that images are encoded while another model loads.
    if (loaded := _encoders.get(name)) is not None and loaded[0] == key:
        return loaded[1]
    with _lock:
        if (loaded := _encoders.get(name)) is not None and loaded[0] == key:
            return loaded[1]
        loaded = None
        _encoders.pop(name, None)  # free the old one first: both may not fit into memory
        with _cache_load_failure(name, key):
            encoder = _load_encoder(name, model_weights)
            _warm_up(encoder, model_weights)
        _encoders[name] = (key, encoder)
        return encoder


def reject(name: str, reason: str) -> None:
    """Treat an encoder as not available in this process until its files change."""
    try:
        key = _cache_key(weights.find_weights(name))
    except WeightsError:
        return  # it is not available anyway
    with _lock:
        _failures[name] = (key, " ".join(reason.split())[:500])
        _encoders.pop(name, None)
    logger.error("The encoder %s is not used until its files change: %s", name, reason)


def embedding_device(name: str | None = None) -> DeviceInfo:
    """Return the device of the configured (or named) encoder, which is the CPU for ONNX Runtime."""
    info = describe_device()
    if info["device"] == "cpu" or not clip_status(name).backend.startswith("onnx"):
        return info
    reason = f"ONNX Runtime encodes on the CPU. The other device is not used: {info['reason']}"
    return info | {"device": "cpu", "reason": reason, "gpu_name": None, "vram_gb": None}


def idle_seconds() -> float | None:
    """Return the seconds since an encoder was last used, or None if none is loaded."""
    used = [encoder.used_at for _, encoder in list(_encoders.values())]
    return monotonic_seconds() - max(used) if used else None


def unload() -> None:
    """Drop all models. Their memory is free once no batch uses them. The next use reloads them."""
    with _lock:
        _models.clear()
        _encoders.clear()
        gc.collect()
        empty_cache()


def _full_name(name: str | None) -> str:
    return name or str(settings.CLIP_CONFIG["model_name"])


def _require_weights(name: str) -> Weights:
    status = clip_status(name)
    if status.reason is not None:
        raise ClipUnavailableError(status.reason)
    return weights.find_weights(name)


def _missing_package(backend: str, model_weights: Weights) -> str | None:
    packages: tuple[str, ...] = ("onnxruntime",)
    if backend == "torch":
        packages = ("torch", "transformers")
        if model_weights.format == "sentence-transformers":
            packages += ("sentence_transformers",)
    return next((package for package in packages if importlib.util.find_spec(package) is None), None)


def _choose_backend(model_weights: Weights | None) -> tuple[str, Path | None]:
    """Return the backend to use, and the exported file for ONNX.

    An ONNX file needs no export. Otherwise ``auto`` means exported ONNX float32 on a CPU, else torch. An ONNX backend
    without an export falls back to torch, which computes the same vectors.
    """
    if model_weights is not None and model_weights.onnx is not None:
        return "onnx", model_weights.onnx.path
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


def _load_model(name: str, model_weights: Weights) -> SentenceTransformer:
    key = _cache_key(model_weights)
    if name not in _models or _models[name][0] != key:
        _models.pop(name, None)
        with _cache_load_failure(name, key):
            _models[name] = (key, load_torch(model_weights))
    return _models[name][1]


def _load_encoder(name: str, model_weights: Weights) -> Encoder:
    """Load the encoder. Raises LoadError and ClipUnavailableError."""
    backend, path = _choose_backend(model_weights)
    if path is not None:
        if model_weights.onnx is not None:
            encoder: Encoder = onnx.OnnxFileEncoder(model_weights.onnx, model_weights.preprocess)
        else:
            encoder = onnx.open_export(path, "float32" if backend == "onnx" else "int8", model_weights)
        logger.info("Loaded %s in ONNX Runtime (%s).", model_weights.model_id, backend)
        return encoder
    configured = settings.CLIP_CONFIG["backend"]
    if configured.startswith("onnx"):
        logger.warning("CLIP_BACKEND is %s, but there is no export: using torch.", configured)
    if model_weights.format == "sentence-transformers":
        model = _load_model(name, model_weights)
        return TorchEncoder(image_encoder(model[0].auto_model, model_weights.preprocess), model.device, model_weights)
    vision = load_vision_model(model_weights)
    return TorchEncoder(image_encoder(vision, model_weights.preprocess), vision.device, model_weights)


def _warm_up(encoder: Encoder, model_weights: Weights) -> None:
    """Encode two images, which also pays for allocations and kernels, and check their vectors.

    Raises LoadError for a model that does not do what its files say, and DeviceMemoryError.
    """
    side, what = model_weights.preprocess.crop, f"The model {model_weights.model_id}"
    noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    try:
        vectors = encoder.start(list(noise))()
    except DeviceMemoryError:
        raise
    except Exception as error:  # a model from outside can fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LoadError(f"{what} cannot encode images of {side} pixels: {reason}") from error
    if vectors.ndim != 2 or len(vectors) != len(noise):
        raise LoadError(f"{what} does not give one vector an image: {vectors.shape} for {len(noise)} images.")
    if model_weights.embedding_dim not in {None, vectors.shape[1]}:
        declared = model_weights.embedding_dim
        raise LoadError(f"{what} says that its vectors have {declared} numbers, but they have {vectors.shape[1]}.")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):  # also false for NaN
        raise LoadError(f"{what} gives no usable vectors. They are zero or not finite, so its weights are damaged.")
    encoder.dim = int(vectors.shape[1])


@contextmanager
def _cache_load_failure(name: str, key: tuple[object, ...]) -> Iterator[None]:
    """Remember a failed load, so that it is not tried again before the files change."""
    try:
        yield
    except LoadError as error:
        _failures[name] = (key, str(error))
        logger.exception("Loading the model %s failed", name)
        raise ClipUnavailableError(str(error)) from error
