"""One picture from its file to what the models look at. Light: processes of gpu.preparers start with this alone."""

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
    """One picture and what is wanted of it."""

    path: Path
    clip: bool
    legacy: bool


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """A picture that was decoded: the pixels that CLIP looks at and its legacy features; None for what nobody wants."""

    pixels: Pixels | None
    legacy: Features | None


def preprocess_image(job: EmbedRequest, preprocess: Preprocess | None) -> Preprocessed | ImageProcessingError:
    """Decode a picture and prepare what the job asks for, or say why that cannot be."""
    for_clip = preprocess if job.clip else None
    # Legacy features are of the whole picture; only what CLIP alone looks at may be decoded smaller.
    draft_side = for_clip.draft_side if for_clip and not job.legacy else None
    try:
        with stage("decode"):
            picture = decode(job.path, draft_side=draft_side)
    except ImageProcessingError as error:
        return error
    with stage("prepare"):
        return Preprocessed(
            for_clip(picture) if for_clip else None,
            extract_legacy(picture) if job.legacy else None,
        )
