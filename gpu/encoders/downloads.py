"""Fetching CLIP weights from the model hub: by command, or once by a worker. No request ever comes here."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from django.conf import settings

from gpu.encoders import weights
from gpu.encoders.weights import Weights, WeightsError

logger = logging.getLogger(__name__)

# How long the hub may take to answer, and how long a worker waits before it asks again after a failure.
HUB_TIMEOUT_SECONDS = 10
RETRY_SECONDS = 3600

# Weights for other frameworks, which the hub keeps beside the ones that are loaded here.
_NOT_NEEDED = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "onnx/*", "openvino/*"]


class DownloadError(Exception):
    """The weights could not be fetched; the message says why in one line."""


def download_model(name: str | None = None) -> Weights:
    """Fetch the configured (or named) model into the cache folder, go on where an earlier try stopped, and check it.

    What is there and whole already is not fetched again. Raises DownloadError.
    """
    name = name or settings.CLIP_CONFIG["model_name"]
    if weights.is_local(name):
        try:
            return weights.find_weights(name)
        except WeightsError as error:
            raise DownloadError(f"{error} A local folder cannot be downloaded.") from error
    cache = weights.cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _fetch(name, cache)
        return weights.find_weights(name)
    except WeightsError as error:
        raise DownloadError(f"The download of {name} is not whole: {error}") from error
    except OSError as error:  # of the disk; the hub's own are told apart in _fetch
        raise DownloadError(f"The weights cannot be written to {cache}: {error.strerror or error}.") from error


def ensure_weights() -> None:
    """For a worker that starts: fetch the configured weights when they are missing, at most one try an hour.

    Never raises for a failed download: it is logged and remembered, and the worker goes on with legacy features.
    """
    name = settings.CLIP_CONFIG["model_name"]
    try:
        weights.find_weights(name)
        return
    except WeightsError as error:
        if weights.is_local(name):
            logger.warning("CLIP is not available: %s", error)
            return
    failure = _last_failure(name)
    if failure is not None and time.time() - failure[0] < RETRY_SECONDS:
        return
    try:
        found = download_model(name)
    except DownloadError as error:
        _remember(name, str(error))
        logger.warning("CLIP is not available: %s", error)
        return
    _memory().unlink(missing_ok=True)
    logger.info("Fetched %s (%.0f MB) into %s.", name, found.size_mb, found.folder)


def last_failure(name: str) -> str | None:
    """Why a worker's last try to fetch this model failed; None when there was none or a later one succeeded."""
    failure = _last_failure(name)
    return None if failure is None else failure[1]


def _fetch(name: str, cache: Path) -> None:
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    repository = weights.hub_repository(name)
    try:
        files = [file.rfilename for file in HfApi().model_info(repository, timeout=HUB_TIMEOUT_SECONDS).siblings or []]
        has_safetensors = any(file.endswith("model.safetensors") for file in files)
        snapshot_download(
            repository,
            cache_dir=cache,
            etag_timeout=HUB_TIMEOUT_SECONDS,
            ignore_patterns=[*_NOT_NEEDED, *(["*.bin"] if has_safetensors else [])],
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


def _memory() -> Path:
    return Path(settings.DATA_DIR) / "clip-download.json"


def _last_failure(name: str) -> tuple[float, str] | None:
    try:
        noted = json.loads(_memory().read_text(encoding="utf-8"))
        return (float(noted["at"]), str(noted["error"])) if noted["model"] == name else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # half a note after a crash is no note


def _remember(name: str, error: str) -> None:
    note = _memory().with_suffix(".part")
    note.write_text(json.dumps({"model": name, "at": time.time(), "error": error}), encoding="utf-8")
    note.replace(_memory())
