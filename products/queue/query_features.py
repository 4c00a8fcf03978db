"""Features of a picture that somebody asks about and nobody stores: here, or by a worker where there are some."""

from __future__ import annotations

import base64
import time
import uuid
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.utils.translation import gettext as _

from core import circuit_breaker
from gpu.pipeline import run
from gpu.vectors import Features
from products.images.cleaning import Upload, clean_query_jpeg

POLL_SECONDS = 0.01  # how often whoever asked looks for the answer
RESULT_TTL_SECONDS = 60  # how long an answer is kept for whoever asked


class FeaturesPendingError(Exception):
    """The features are not there yet. ``waited``: somebody waited for a worker that did not answer in time."""

    code = "features_pending"

    def __init__(self, message: str, *, waited: bool = False) -> None:
        super().__init__(message)
        self.waited = waited


def query_features(upload: Upload, wait: float) -> list[Features]:
    """The features of a picture, CLIP's first. Nothing is stored.

    With a broker a worker embeds it (so that a web process never loads a model) and is waited for at most
    ``wait`` seconds; then FeaturesPendingError. Raises ImageProcessingError for a bad picture.
    """
    jpeg = clean_query_jpeg(upload)
    if not settings.HAS_BROKER:
        return extract_query_features(jpeg)
    question = uuid.uuid4().hex
    try:
        with circuit_breaker.redis_call():
            current_app.send_task(
                "products.tasks.embed_question", [question, base64.b64encode(jpeg).decode()], expires=wait + 1
            )
            packed = _wait_for_result(question, wait)
    except circuit_breaker.BrokerUnavailableError as error:
        raise FeaturesPendingError(_("No worker can be reached at the moment. Try again."), waited=True) from error
    if packed is None:
        text = _("No worker answered within %g seconds. Try again, or check that workers are running.")
        raise FeaturesPendingError(text % wait, waited=True)
    return unpack(packed)


def compute_for_waiting_request(question: str, jpeg: str) -> None:
    """The worker's part: leave the features of a base64 picture for whoever asked.

    Raises ImageProcessingError, ValueError for what is no base64, and RedisError.
    """
    features = extract_query_features(base64.b64decode(jpeg, validate=True))
    cache.set(_cache_key(question), pack(features), RESULT_TTL_SECONDS)


def _wait_for_result(question: str, seconds: float) -> list[dict[str, str]] | None:
    """What the worker left, None when there is nothing after ``seconds``.

    Looks at the shared cache instead of waiting on Celery's result backend, whose one subscription is not
    meant for many threads and does not outlive a restart of Redis.
    """
    deadline = time.monotonic() + seconds
    packed: list[dict[str, str]] | None
    while (packed := cache.get(_cache_key(question))) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return packed


def _cache_key(question: str) -> str:
    return f"answer-{question}"


def extract_query_features(jpeg: bytes) -> list[Features]:
    """Compute the features in this process. Raises ImageProcessingError."""
    found = run.extract_query_features(jpeg)
    return [features for features in (found.clip, found.legacy) if features is not None]


def pack(features: list[Features]) -> list[dict[str, str]]:
    """Features as JSON: kind, model_name and the three BLOBs in base64."""
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
    """The features that ``pack`` packed. Raises ValueError for BLOBs of wrong lengths."""
    return [
        Features.from_blobs(
            part["kind"],
            part["model_name"],
            *(base64.b64decode(part[name]) for name in ("color", "shape", "texture")),
        )
        for part in packed
    ]
