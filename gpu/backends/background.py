"""Measure backends while a worker embeds: in another process, with low priority, once for each model."""

from __future__ import annotations

import logging
import subprocess  # nosec B404: runs this project's manage.py
import sys
import threading

from django.conf import settings

from gpu.backends import choice, samples
from gpu.encoders import registry
from gpu.encoders.weights import WeightsError, find_weights

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None
_tried: set[tuple[str, bool]] = set()


def measure_if_needed() -> bool:
    """Start to measure a model that this process uses, if CLIP_BACKEND is ``auto``. Return whether that began.

    A model needs it that was never measured here, or only on drawn images although the catalogue has enough by now.
    Each is tried once in the life of this process. A running measurement goes on if this process ends.
    """
    global _process
    config = settings.CLIP_CONFIG
    if config["backend"] != "auto" or not config["measure"]:
        return False
    with _lock:
        if _process is not None and _process.poll() is None:
            return False
        for source in registry.loaded_sources():
            if _needs_measuring(source):
                _process = _start(source)
                return True
    return False


def _needs_measuring(source: str) -> bool:
    try:
        model_weights = find_weights(source)
    except WeightsError:
        return False
    found = choice.find(model_weights)
    again = found is not None and found.rendered > 0 and samples.has_enough()
    attempt = (model_weights.fingerprint, again)
    if attempt in _tried or (found is not None and not again):
        return False
    _tried.add(attempt)
    return True


def _start(source: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "benchmark_backends", "--low-priority"]
    process = subprocess.Popen(  # nosec B603: fixed command, the model is one that this process has loaded
        [*command, "--model", source],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    logger.info("Process %d measures the backends of %s on this machine.", process.pid, source)
    return process
