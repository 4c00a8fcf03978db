"""Turn a decoded image into the square of pixels that the model sees, exactly as its own processor does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# JPEG drafts are at least this multiple of the model's input, so that the resize still averages pixels.
DRAFT_FACTOR = 2

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Scale the shorter side to ``size``, crop the centre, normalise.

    The settings come from ``preprocessor_config.json``.
    """

    size: int
    crop: int
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocess:
        """Read the configuration in its old or new form.

        Raises ValueError if it differs from CLIP's steps.
        """
        steps = ("do_resize", "do_center_crop", "do_normalize", "do_rescale")
        if not all(config.get(step, True) for step in steps):
            raise ValueError("its preprocessor skips one of resize, crop, rescale and normalise")
        size, crop = config.get("size", 224), config.get("crop_size", 224)
        if isinstance(size, dict):
            size = size.get("shortest_edge")
        if isinstance(crop, dict):
            crop = crop.get("height") if crop.get("height") == crop.get("width") else None
        mean, std = config.get("image_mean", ()), config.get("image_std", ())
        if not isinstance(size, int) or not isinstance(crop, int) or crop > size or len(mean) != 3 or len(std) != 3:
            raise ValueError("its preprocessor does not resize the shorter side and crop a square")
        return cls(size, crop, Image.Resampling(config.get("resample", 3)), tuple(mean), tuple(std))

    @property
    def draft_side(self) -> int:
        """Return the smallest shorter side, in pixels, at which a JPEG is decoded."""
        return DRAFT_FACTOR * self.size

    def __call__(self, image: Image.Image) -> Pixels:
        """Return an RGB image as (crop, crop, 3) uint8.

        Resizes the whole image, then crops. Resizing only the crop (Pillow's ``box``) is slightly faster, but its
        pixels differ from the model's own processor: the box has float32 corners, and Pillow orders its two passes by
        the shape of the result.
        """
        width, height = image.size
        if width <= height:
            resized = (self.size, int(self.size * height / width))
        else:
            resized = (int(self.size * width / height), self.size)
        left, top = (resized[0] - self.crop) // 2, (resized[1] - self.crop) // 2
        square = image.resize(resized, self.resample)
        if resized != (self.crop, self.crop):
            square = square.crop((left, top, left + self.crop, top + self.crop))
        return np.asarray(square)

    def scale_and_shift(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the vectors that normalise uint8 pixels by ``pixels * scale + shift``.

        Both are (3,) float32.
        """
        std = np.asarray(self.std, np.float64)
        scale = 1.0 / (255.0 * std)
        return scale.astype(np.float32), (-np.asarray(self.mean, np.float64) / std).astype(np.float32)
