"""Compute the features of a query image, here or in a worker. Nothing is stored."""

from __future__ import annotations

import base64
import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.utils.translation import gettext as _

from core import circuit_breaker
from gpu.pipeline import run
from gpu.vectors import Features
from products import model_versions
from products.images.cleaning import Upload, clean_query_jpeg

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.01  # between two checks of a waiting request
RESULT_TTL_SECONDS = 60  # how long the cache keeps a result for the waiting request


class FeaturesPendingError(Exception):
    """The features do not exist yet. ``waited``: a worker did not finish in time."""

    code = "features_pending"

    def __init__(self, message: str, *, waited: bool = False) -> None:
        super().__init__(message)
        self.waited = waited


def query_features(upload: Upload, wait: float, encoders: Sequence[str] | None = None) -> list[Features]:
    """Return the features of an image, those of the encoders first. Store nothing.

    ``encoders`` are what loads them (default: the encoders of the version in use).

    With a broker, a worker computes them, so that no web process loads a model. Raises FeaturesPendingError after
    ``wait`` seconds, and ImageProcessingError for an image that cannot be used.
    """
    jpeg = clean_query_jpeg(upload)
    if not settings.HAS_BROKER:
        return extract_query_features(jpeg, encoders)
    query_id = uuid.uuid4().hex
    try:
        with circuit_breaker.redis_call():
            current_app.send_task(
                "products.tasks.embed_question", [query_id, base64.b64encode(jpeg).decode(), encoders], expires=wait + 1
            )
            packed = _wait_for_result(query_id, wait)
    except circuit_breaker.BrokerUnavailableError as error:
        raise FeaturesPendingError(_("No worker can be reached now. Try again."), waited=True) from error
    if packed is None:
        text = _("No worker answered within %g seconds. Try again, or check that workers are running.")
        raise FeaturesPendingError(text % wait, waited=True)
    try:
        return unpack(packed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Any client that can write to Redis can leave a value here.
        raise FeaturesPendingError(_("The worker's result cannot be read. Try again."), waited=True) from error


def compute_for_waiting_request(query_id: str, jpeg: str, encoders: Sequence[str] | None = None) -> None:
    """Compute the features of a base64 JPEG in the worker.

    Leave them in the cache for the waiting request. Raises ImageProcessingError, and ValueError for invalid base64.
    """
    features = extract_query_features(base64.b64decode(jpeg, validate=True), encoders)
    try:
        with circuit_breaker.redis_call():
            cache.set(_cache_key(query_id), pack(features), RESULT_TTL_SECONDS)
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("The features of a query image could not be returned to its request: %s", error)


def _wait_for_result(query_id: str, seconds: float) -> list[dict[str, str]] | None:
    """Return what the worker left in the cache, or None after ``seconds``.

    Poll the shared cache instead of Celery's result backend: its single subscription is not made for many threads
    and does not survive a restart of Redis.
    """
    deadline = time.monotonic() + seconds
    packed: list[dict[str, str]] | None
    while (packed := cache.get(_cache_key(query_id))) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return packed


def _cache_key(query_id: str) -> str:
    return f"query-features-{query_id}"


def extract_query_features(jpeg: bytes, encoders: Sequence[str] | None = None) -> list[Features]:
    """Compute the features in this process, those of the encoders first. Raises ImageProcessingError."""
    computed = run.extract_query_features(jpeg, encoders if encoders is not None else model_versions.sources_in_use())
    return [features for features in (*computed.embeddings, computed.legacy) if features is not None]


def pack(features: list[Features]) -> list[dict[str, str]]:
    """Return the features as JSON data, with their three BLOBs in base64."""
    return [
        {"kind": part.kind, "model_name": part.model_name}
        | dict(
            zip(
                ("color", "shape", "texture"),
                (base64.b64encode(blob).decode() for blob in part.to_blobs()),
                strict=True,
            )
        )
        for part in features
    ]


def unpack(packed: list[dict[str, Any]]) -> list[Features]:
    """Reverse ``pack``. Raises ValueError for BLOBs of wrong lengths."""
    return [
        Features.from_blobs(
            part["kind"],
            part["model_name"],
            *(base64.b64decode(part[name]) for name in ("color", "shape", "texture")),
        )
        for part in packed
    ]
