"""Download weights from the model hub, by command or once by a worker. Never during a request."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from django.conf import settings

from core.files import write_file
from gpu.encoders import weights
from gpu.encoders.weights import Weights, WeightsError
from gpu.text import files as text_files
from gpu.text.files import TextModel

_Model = TypeVar("_Model", Weights, TextModel)

logger = logging.getLogger(__name__)

# How long to wait for the hub, and how long a worker waits after a failure before it tries again.
HUB_TIMEOUT_SECONDS = 10
RETRY_SECONDS = 3600

# Files for other frameworks in the same repositories.
_IGNORED_FILES = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "onnx/*", "openvino/*"]


class DownloadError(Exception):
    """The weights could not be downloaded. The message says why in one line."""


def download_model(name: str | None = None) -> Weights:
    """Download the configured (or named) model into the cache folder and check it.

    Raises DownloadError. Continues an interrupted download. Files that are complete are not downloaded again.
    """
    return _download(name or settings.CLIP_CONFIG["model_name"], weights.find_weights)


def download_text_model(name: str) -> TextModel:
    """Download a text model for CLIP_TEXT_MODEL in the same way. Raises DownloadError."""
    return _download(name, text_files.check_text_model)


def _download(name: str, check: Callable[[str], _Model]) -> _Model:
    if weights.is_local(name):
        try:
            return check(name)
        except WeightsError as error:
            raise DownloadError(f"{error} A local model cannot be downloaded.") from error
    cache = weights.cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _fetch(name, cache)
        return check(name)
    except WeightsError as error:
        raise DownloadError(f"The download of {name} is incomplete: {error}") from error
    except OSError as error:  # an error of the disk; _fetch handles those of the hub
        raise DownloadError(f"The weights cannot be written to {cache}: {error.strerror or error}.") from error


def ensure_weights() -> None:
    """Download missing weights of the configured models when a worker starts, with at most one attempt an hour.

    A failed download is logged and remembered, and the worker continues with legacy features, or without words.
    """
    for name in (settings.CLIP_CONFIG["model_name"], *settings.CLIP_CONFIG["extra_models"]):
        _ensure(name, weights.find_weights, f"{name} is not available")
    if text_files.configured():
        _ensure(text_files.configured(), text_files.check_text_model, "Words cannot be searched")


def _ensure(name: str, check: Callable[[str], _Model], consequence: str) -> None:
    try:
        check(name)
        return
    except WeightsError as error:
        if weights.is_local(name):
            logger.warning("%s: %s", consequence, error)
            return
    failure = _last_failure(name)
    if failure is not None and abs(time.time() - failure[0]) < RETRY_SECONDS:  # a clock may have been set back
        return
    try:
        model = _download(name, check)
    except DownloadError as error:
        _store_failure(name, str(error))
        logger.warning("%s: %s", consequence, error)
        return
    _failure_file(name).unlink(missing_ok=True)
    logger.info("Downloaded %s to %s.", name, model.folder)


def last_failure(name: str) -> str | None:
    """Return why the last download of this model failed, or None."""
    failure = _last_failure(name)
    return None if failure is None else failure[1]


def _fetch(name: str, cache: Path) -> None:
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    repository = weights.hub_repository(name)
    try:
        files = [file.rfilename for file in HfApi().model_info(repository, timeout=HUB_TIMEOUT_SECONDS).siblings or []]
        has_safetensors = any(file.endswith(".safetensors") for file in files)
        snapshot_download(  # nosec B615 # the operator chose the model, and its files are checked
            repository,
            cache_dir=cache,
            etag_timeout=HUB_TIMEOUT_SECONDS,
            ignore_patterns=[*_IGNORED_FILES, *(["*.bin"] if has_safetensors else [])],
        )
    except RepositoryNotFoundError as error:
        raise DownloadError(f"The model hub has no model {repository}.") from error
    except HFValidationError as error:
        raise DownloadError(f"{name!r} is not the name of a model on the hub.") from error
    except OfflineModeIsEnabled as error:
        raise DownloadError("The model hub is switched off by HF_HUB_OFFLINE.") from error
    except (httpx2.HTTPError, HfHubHTTPError, ConnectionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DownloadError(f"The model hub cannot be reached: {reason or type(error).__name__}") from error


def _failure_file(name: str) -> Path:
    extra = settings.CLIP_CONFIG["extra_models"]
    kind = "text" if name == text_files.configured() else f"extra-{extra.index(name)}" if name in extra else "clip"
    return Path(settings.DATA_DIR) / f"{kind}-download.json"


def _last_failure(name: str) -> tuple[float, str] | None:
    try:
        failure = json.loads(_failure_file(name).read_text(encoding="utf-8"))
        return (float(failure["at"]), str(failure["error"])) if failure["model"] == name else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # written incompletely before a crash


def _store_failure(name: str, error: str) -> None:
    write_file(_failure_file(name), json.dumps({"model": name, "at": time.time(), "error": error}).encode())
