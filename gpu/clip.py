"""The published functions for CLIP embeddings, on top of the encoders and the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpu.encoders import registry, selection, tokens
from gpu.imaging.errors import ImageProcessingError
from gpu.pipeline import preprocess_workers, run
from gpu.pipeline.preprocess_image import EmbedRequest
from gpu.text import encoder as text_encoder
from gpu.vectors import FloatVector

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["extract_clip_embedding", "get_clip_model", "is_clip_available", "process_batch", "unload"]


def is_clip_available() -> bool:
    """Return whether the encoder in use is available. A failed load counts until its files change."""
    return registry.is_clip_available(selection.source_in_use())


def get_clip_model() -> SentenceTransformer:
    """Return the model in use, loaded once per process.

    Never downloads. Raises ClipUnavailableError, also if the encoder in use is no sentence-transformers model.
    """
    return registry.get_clip_model(selection.source_in_use())


def extract_clip_embedding(image_path: str | Path) -> FloatVector:
    """Return the CLIP embedding of one image, (512,) float32 of unit length.

    Other models have other lengths. Raises ImageProcessingError for an image that cannot be used, and
    ClipUnavailableError without a model.
    """
    vector = process_batch([image_path])[0]
    if isinstance(vector, ImageProcessingError):
        raise vector
    return vector


def process_batch(
    image_paths: Sequence[str | Path], batch_size: int | None = None
) -> list[FloatVector | ImageProcessingError]:
    """Return the embedding or the error for each path, in order.

    An embedding is (512,) float32 of unit length. Raises ClipUnavailableError without a model.
    """
    jobs = [EmbedRequest(Path(path), clip=True, legacy=False) for path in image_paths]
    results: list[FloatVector | ImageProcessingError] = []
    for result in run.run_pipeline(jobs, batch_size=batch_size, model=selection.source_in_use()):
        if isinstance(result, ImageProcessingError):
            results.append(result)
        else:
            assert result.clip is not None  # noqa: S101  # nosec B101 # every request has clip=True
            results.append(np.asarray(result.clip.color, np.float32))
    return results


def unload() -> None:
    """Unload the model and stop the preprocessing workers.

    The next use starts them again.
    """
    registry.unload()
    text_encoder.unload()
    tokens.unload()
    preprocess_workers.close()
