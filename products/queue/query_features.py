"""Compute the features of a query image, here or in a worker. Nothing is stored."""

from __future__ import annotations

import base64
from typing import Any

from django.conf import settings

from gpu.pipeline import run
from gpu.vectors import Features
from products.images.cleaning import Upload, clean_query_jpeg
from products.queue.questions import FeaturesPendingError, ask, leave_result, unreadable_result

__all__ = ["FeaturesPendingError", "compute_for_waiting_request", "extract_query_features", "query_features"]


def query_features(upload: Upload, wait: float) -> list[Features]:
    """Return the features of an image, CLIP's first. Store nothing.

    With a broker, a worker computes them, so that no web process loads a model. Raises FeaturesPendingError after
    ``wait`` seconds, and ImageProcessingError for an image that cannot be used.
    """
    jpeg = clean_query_jpeg(upload)
    if not settings.HAS_BROKER:
        return extract_query_features(jpeg)
    packed = ask("products.tasks.embed_question", base64.b64encode(jpeg).decode(), wait)
    try:
        return unpack(packed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable_result() from error


def compute_for_waiting_request(query_id: str, jpeg: str) -> None:
    """Compute the features of a base64 JPEG in the worker.

    Leave them in the cache for the waiting request. Raises ImageProcessingError, and ValueError for invalid base64.
    """
    leave_result(query_id, pack(extract_query_features(base64.b64decode(jpeg, validate=True))))


def extract_query_features(jpeg: bytes) -> list[Features]:
    """Compute the features in this process, CLIP's first. Raises ImageProcessingError."""
    computed = run.extract_query_features(jpeg)
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
