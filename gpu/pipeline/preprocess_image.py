"""Decode one image and preprocess it for the models. Without Django and torch, so that subprocesses start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu.encoders.preprocess import Pixels, Preprocess
from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError
from gpu.legacy import extract_legacy
from gpu.timings import stage
from gpu.vectors import Features


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """An image file and the features to compute."""

    path: Path
    clip: bool
    legacy: bool


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """CLIP's input pixels and the legacy features of an image.

    None for what was not requested.
    """

    pixels: Pixels | None
    legacy: Features | None


def preprocess_image(request: EmbedRequest, preprocess: Preprocess | None) -> Preprocessed | ImageProcessingError:
    """Decode an image and preprocess it. Return the error if that fails."""
    clip_preprocess = preprocess if request.clip else None
    # Legacy features need the image in full. Only for CLIP alone it may be decoded smaller.
    draft_side = clip_preprocess.draft_side if clip_preprocess and not request.legacy else None
    try:
        with stage("decode"):
            image = decode(request.path, draft_side=draft_side)
    except ImageProcessingError as error:
        return error
    with stage("prepare"):
        return Preprocessed(
            clip_preprocess(image) if clip_preprocess else None,
            extract_legacy(image) if request.legacy else None,
        )
