"""Compute the features of a query image, here or in a worker. Nothing is stored."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from gpu.pipeline import run
from gpu.sandbox.pool import DecodedImage
from gpu.vectors import Features
from products import model_versions
from products.images.cleaning import Upload, clean_query_jpeg
from products.queue.questions import FeaturesPendingError, ask, leave_result, unreadable_result

__all__ = ["FeaturesPendingError", "compute_for_waiting_request", "extract_query_features", "query_features"]


def query_features(upload: Upload | DecodedImage, wait: float, encoders: Sequence[str] | None = None) -> list[Features]:
    """Return the features of an image, those of the encoders first. Store nothing.

    ``encoders`` are what loads them (default: the encoders of the version in use).

    With a broker, a worker computes them, so that no web process loads a model. Raises FeaturesPendingError after
    ``wait`` seconds, and ImageProcessingError for an image that cannot be used.
    """
    jpeg = clean_query_jpeg(upload) if isinstance(upload, Upload) else upload.jpeg
    if not settings.HAS_BROKER:
        return extract_query_features(jpeg, encoders)
    packed = ask("products.tasks.embed_question", base64.b64encode(jpeg).decode(), wait, encoders)
    try:
        return unpack(packed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable_result() from error


def compute_for_waiting_request(query_id: str, jpeg: str, encoders: Sequence[str] | None = None) -> None:
    """Compute the features of a base64 JPEG in the worker.

    Leave them in the cache for the waiting request. Raises ImageProcessingError, and ValueError for invalid base64.
    """
    leave_result(query_id, pack(extract_query_features(base64.b64decode(jpeg, validate=True), encoders)))


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
