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

from gpu.backends import choice
from gpu.backends.choice import Choice
from gpu.backends.loading import is_ready, load_encoder, model_file
from gpu.device import DeviceInfo, describe_device, empty_cache, likely_device
from gpu.encoders import downloads, weights
from gpu.encoders.modules import image_encoder
from gpu.encoders.protocol import DeviceMemoryError, Encoder, LoadError, monotonic_seconds
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
    """Whether an encoder is available in this process. ``reason`` says why not."""

    available: bool
    reason: str | None
    model_name: str
    embedding_dim: int | None
    weights_cached: bool
    cache_size_mb: float
    backend: str


BACKENDS = ("auto", *choice.BACKENDS)

# Loaded encoders and models, and failed loads, by the name of the model. Each has the key of what it was loaded from.
_lock = threading.RLock()
_models: dict[str, tuple[tuple[object, ...], SentenceTransformer]] = {}
_encoders: dict[str, tuple[tuple[object, ...], Encoder]] = {}
_failures: dict[str, tuple[tuple[object, ...], str]] = {}
# The keys of measured choices that could not be loaded in this process, and models that are being replaced.
_given_up: set[tuple[str, ...]] = set()
_replacing: set[str] = set()


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
    if (loaded := _encoders.get(name)) is not None:
        if loaded[0] == key:
            return loaded[1]
        if loaded[0][:2] == key[:2] and (measured := _measured_choice(model_weights)) is not None:
            _replace_in_background(name, model_weights, measured)
            return loaded[1]
    with _lock:
        if (loaded := _encoders.get(name)) is not None and loaded[0] == key:
            return loaded[1]
        loaded = None
        _encoders.pop(name, None)  # free the old one first: both may not fit into memory
        try:
            encoder = _load_encoder(name, model_weights)
            _warm_up(encoder, model_weights)
        except LoadError as error:
            measured = _measured_choice(model_weights)
            if measured is None:
                _remember_failure(name, key, error)
                raise ClipUnavailableError(str(error)) from error
            _give_up(measured, error)
            return get_encoder(name)
        _encoders[name] = (key, encoder)
        return encoder


def measured_backends(name: str | None = None) -> Choice | None:
    """Return what was measured with the configured (or named) model on this machine, or None."""
    try:
        return choice.find(weights.find_weights(_full_name(name)))
    except WeightsError:
        return None


def loaded_sources() -> list[str]:
    """Return the names of the models that this process has loaded."""
    return list(_encoders)


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
        _given_up.clear()
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
    if backend.startswith("torch"):
        packages = ("torch", "transformers")
        if model_weights.format == "sentence-transformers":
            packages += ("sentence_transformers",)
    return next((package for package in packages if importlib.util.find_spec(package) is None), None)


def _choose_backend(model_weights: Weights | None) -> tuple[str, Path | None]:
    """Return the backend to use, and the exported file for ONNX.

    ``auto`` means what was measured to be the fastest. Before that it is ONNX float32 on a CPU if there is a file, else
    torch. A backend without its file falls back to torch, which computes the same vectors.
    """
    if model_weights is None:
        return "torch", None
    if (measured := _measured_choice(model_weights)) is not None:
        return measured.backend, model_file(measured.backend, model_weights)
    if model_weights.onnx is not None:
        return "onnx", model_weights.onnx.path
    configured = settings.CLIP_CONFIG["backend"]
    if configured == "auto" and likely_device()[0] == "cpu":
        configured = "onnx"
    if configured in choice.BACKENDS and is_ready(configured, model_weights):
        return configured, model_file(configured, model_weights)
    return "torch", None


def _measured_choice(model_weights: Weights) -> Choice | None:
    """Return what was measured here with these weights, if it can be used and CLIP_BACKEND does not say otherwise."""
    if settings.CLIP_CONFIG["backend"] != "auto":
        return None
    found = choice.find(model_weights)
    if found is None or found.key in _given_up or not is_ready(found.backend, model_weights):
        return None
    return found


def _replace_in_background(name: str, model_weights: Weights, measured: Choice) -> None:
    """Load the encoder that was found to be better. Until it is ready, the loaded one goes on."""

    def replace() -> None:
        key = _cache_key(model_weights)
        try:
            encoder = load_encoder(measured.backend, model_weights)
            _warm_up(encoder, model_weights)
            with _lock:
                _models.pop(name, None)
                if name in _encoders:  # otherwise it was unloaded since
                    _encoders[name] = (key, encoder)
            logger.info("%s is now encoded with %s.", model_weights.model_id, measured.backend)
        except (LoadError, DeviceMemoryError) as error:
            _give_up(measured, error)
        finally:
            _replacing.discard(name)

    with _lock:
        if name in _replacing:
            return
        _replacing.add(name)
    threading.Thread(target=replace, name="replace encoder", daemon=True).start()


def _give_up(measured: Choice, error: Exception) -> None:
    """Do without a choice in this process until it is measured again."""
    logger.warning("%s cannot be used with %s, although that was measured: %s", measured.model, measured.backend, error)
    _given_up.add(measured.key)


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
        encoder = load_encoder(backend, model_weights)
        logger.info("Loaded %s in ONNX Runtime (%s).", model_weights.model_id, backend)
        return encoder
    configured = settings.CLIP_CONFIG["backend"]
    if configured.startswith("onnx"):
        logger.warning("CLIP_BACKEND is %s, but there is no export: using torch.", configured)
    if backend == "torch" and model_weights.format == "sentence-transformers":  # get_clip_model shares it
        model = _load_model(name, model_weights)
        return TorchEncoder(image_encoder(model[0].auto_model, model_weights.preprocess), model.device, model_weights)
    return load_encoder(backend, model_weights)


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
        _remember_failure(name, key, error)
        raise ClipUnavailableError(str(error)) from error


def _remember_failure(name: str, key: tuple[object, ...], error: LoadError) -> None:
    _failures[name] = (key, str(error))
    logger.error("Loading the model %s failed", name, exc_info=error)
