"""The published functions for the features of an image file, on top of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gpu.encoders import registry, selection
from gpu.pipeline import run
from gpu.pipeline.preprocess_image import EmbedRequest
from gpu.vectors import detect_feature_type

__all__ = ["detect_feature_type", "extract_features"]


def extract_features(image_path: str | Path, use_clip: bool = True) -> dict[str, np.ndarray[Any, Any]]:
    """Return the features of one image as a dictionary.

    Its keys are ``color_features``, ``shape_features`` and ``texture_features``. With CLIP (if available and
    ``use_clip``): the embedding (512,) float32 and two empty arrays. Otherwise legacy features: (256,) uint8, (7,)
    float32, (256,) uint8. Raises ImageProcessingError.
    """
    path = Path(image_path)
    source = selection.source_in_use() if use_clip else None
    try:
        with_clip = use_clip and registry.is_clip_available(source)
        (result,) = run.run_pipeline([EmbedRequest(path, clip=with_clip, legacy=not with_clip)], model=source)
    except registry.ClipUnavailableError:
        (result,) = run.run_pipeline([EmbedRequest(path, clip=False, legacy=True)])
    if isinstance(result, Exception):
        raise result
    features = result.clip or result.legacy
    assert features is not None  # noqa: S101  # nosec B101 # the request has one of the two
    return {
        "color_features": features.color,
        "shape_features": features.shape,
        "texture_features": features.texture,
    }
