"""Features of a picture that somebody asks about and nobody stores: here, or by a worker where there are some."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from celery import current_app
from celery.exceptions import TimeoutError as CeleryTimeoutError
from django.conf import settings
from kombu.exceptions import OperationalError

from gpu import pipeline
from gpu.features import Features
from products.intake import Upload, clean


class FeaturesPendingError(Exception):
    """The features are not there yet. ``waited``: somebody waited for a worker that did not answer in time."""

    code = "features_pending"

    def __init__(self, message: str, *, waited: bool = False) -> None:
        super().__init__(message)
        self.waited = waited


def features_of(upload: Upload, wait: float) -> list[Features]:
    """The features of a picture, CLIP's first. Nothing is stored.

    With a broker a worker embeds it (so that a web process never loads a model) and is waited for at most
    ``wait`` seconds; then FeaturesPendingError. Raises ImageProcessingError for a bad picture.
    """
    jpeg = clean(upload).jpeg
    if not settings.HAS_BROKER:
        return extract(jpeg)
    try:
        result = current_app.send_task(
            "products.tasks.embed_question", [base64.b64encode(jpeg).decode()], queue="questions", expires=wait + 1
        )
        try:
            packed = result.get(timeout=wait)
        finally:
            result.forget()
    except (CeleryTimeoutError, OperationalError) as error:
        raise FeaturesPendingError(
            f"No worker answered within {wait:g} seconds. Try again, or check that workers are running.", waited=True
        ) from error
    return unpack(packed)


def extract(jpeg: bytes) -> list[Features]:
    """Compute the features in this process. Raises ImageProcessingError."""
    found = pipeline.extract_question(jpeg)
    return [features for features in (found.clip, found.legacy) if features is not None]


def from_text(jpeg: str) -> bytes:
    """The bytes of a base64 picture. Raises ValueError for anything else."""
    try:
        return base64.b64decode(jpeg, validate=True)
    except binascii.Error as error:
        raise ValueError("the picture of a question must be base64") from error


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
