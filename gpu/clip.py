"""The CLIP encoder of this process: whether it can be used, loading it once, and the guide's functions on it."""

from __future__ import annotations

import gc
import importlib.util
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from django.conf import settings

from gpu import downloads, weights
from gpu.device import get_device_info
from gpu.downloads import ensure_weights
from gpu.encoders import Encoder, TorchEncoder
from gpu.features import FloatVector
from gpu.images import ImageProcessingError
from gpu.weights import Weights, WeightsError, model_id

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

__all__ = [
    "ClipStatus",
    "ClipUnavailableError",
    "clip_status",
    "ensure_weights",
    "extract_clip_embedding",
    "get_clip_model",
    "get_encoder",
    "idle_seconds",
    "is_clip_available",
    "model_id",
    "process_batch",
    "unload",
]


class ClipUnavailableError(Exception):
    """CLIP cannot be used here; the message says why in one line."""

    code = "clip_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClipStatus:
    """What this process can say of CLIP. ``reason`` is None when it is available."""

    available: bool
    reason: str | None
    model_name: str
    embedding_dim: int | None
    weights_cached: bool
    cache_size_mb: float
    backend: str


_lock = threading.RLock()
_model: tuple[tuple[object, ...], SentenceTransformer] | None = None
_encoder: tuple[tuple[object, ...], Encoder] | None = None
_failure: tuple[tuple[object, ...], str] | None = None
_last_used = 0.0


def clip_status() -> ClipStatus:
    """Whether CLIP can be used, judged from the packages and the model's files, without importing torch."""
    name, backend = settings.CLIP_CONFIG["model_name"], settings.CLIP_CONFIG["backend"]
    try:
        found = weights.find()
    except WeightsError as error:
        tried = downloads.last_failure(name)
        reason = f"{error} The last try: {tried}" if tried else str(error)
        return ClipStatus(False, reason, name, weights.known_dim(name), False, 0.0, backend)
    problem = _missing_package()
    if problem is None and _failure is not None and _failure[0] == _key(found):
        problem = _failure[1]
    return ClipStatus(problem is None, problem, name, found.embedding_dim, True, found.size_mb, backend)


def is_clip_available() -> bool:
    """Whether CLIP can be used here. Costs a few stat() calls; a load that failed counts until the files change."""
    return clip_status().available


def get_clip_model() -> SentenceTransformer:
    """The model, loaded once per process, on its device. Never downloads. Raises ClipUnavailableError."""
    global _model
    with _lock:
        found = _usable()
        if _model is None or _model[0] != _key(found):
            _model = (_key(found), _load(found))
        return _model[1]


def get_encoder() -> Encoder:
    """The image encoder in use, loaded and warmed up once per process. Raises ClipUnavailableError."""
    global _encoder, _last_used
    with _lock:
        found = _usable()
        if _encoder is None or _encoder[0] != _key(found):
            unload()
            encoder = TorchEncoder(get_clip_model(), found.preprocess)
            blank = np.zeros((found.preprocess.crop, found.preprocess.crop, 3), np.uint8)
            encoder.start([blank])()  # the first batch pays for allocations and kernels; nobody should measure that
            _encoder = (_key(found), encoder)
        _last_used = time.monotonic()
        return _encoder[1]


def idle_seconds() -> float | None:
    """Seconds since the loaded model was last used; None when none is loaded."""
    return time.monotonic() - _last_used if _encoder is not None else None


def unload() -> None:
    """Forget the loaded model and give its memory back; the next use loads it again."""
    global _model, _encoder
    with _lock:
        encoder, _encoder, _model = _encoder, None, None
        if encoder is not None:
            encoder[1].close()
            del encoder
            gc.collect()


def extract_clip_embedding(image_path: str | Path) -> FloatVector:
    """The CLIP embedding of one picture: (512,) float32 of unit length (other models have other lengths).

    Raises ImageProcessingError for a picture that cannot be used and ClipUnavailableError without a model.
    """
    vector = process_batch([image_path])[0]
    if isinstance(vector, ImageProcessingError):
        raise vector
    return vector


def process_batch(
    image_paths: Sequence[str | Path], batch_size: int | None = None
) -> list[FloatVector | ImageProcessingError]:
    """One result per path, in order: the embedding (512,) float32 of unit length, or why there is none.

    Raises ClipUnavailableError when there is no model at all.
    """
    from gpu import pipeline  # which is built on this module

    jobs = [pipeline.PictureJob(Path(path), clip=True, legacy=False) for path in image_paths]
    results: list[FloatVector | ImageProcessingError] = []
    for result in pipeline.run(jobs, batch_size=batch_size):
        if isinstance(result, ImageProcessingError):
            results.append(result)
        else:
            assert result.clip is not None  # noqa: S101  (every job asked for it)
            results.append(np.asarray(result.clip.color, np.float32))
    return results


def _usable() -> Weights:
    status = clip_status()
    if status.reason is not None:
        raise ClipUnavailableError(status.reason)
    return weights.find()


def _missing_package() -> str | None:
    for package in ("torch", "transformers", "sentence_transformers"):
        if importlib.util.find_spec(package) is None:
            return f"The Python package {package} is not installed."
    return None


def _key(found: Weights) -> tuple[object, ...]:
    """What must stay the same for a loaded model to stay in use."""
    return (found.signature, settings.CLIP_CONFIG["force_cpu"], settings.CLIP_CONFIG["backend"])


def _load(found: Weights) -> SentenceTransformer:
    global _failure
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        info = get_device_info()
        on_cuda = info["device"] in {"cuda", "rocm"}
        started = time.monotonic()
        model = SentenceTransformer(
            str(found.folder),
            device="cuda" if on_cuda else info["device"],
            local_files_only=True,
            # Half precision where it is twice as fast; a CPU would be slower, and Apple's is not measured.
            model_kwargs={"dtype": torch.float16 if on_cuda else torch.float32},
        )
    except (ImportError, OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        # What the libraries raise on model folders that are whole but wrong; torch's own errors are RuntimeErrors.
        reason = f"The model in {found.folder} cannot be loaded: {' '.join(str(error).split())[:300]}"
        _failure = (_key(found), reason)
        logger.exception("Loading CLIP failed")
        raise ClipUnavailableError(reason) from error
    logger.info(
        "Loaded %s on %s in %.1f s: %s", found.model_id, info["device"], time.monotonic() - started, info["reason"]
    )
    return model
