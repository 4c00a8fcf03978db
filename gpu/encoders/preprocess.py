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
    """Scale the image, crop the centre, normalise.

    size: the length of the shorter side, or of both sides with ``squash``, which ignores the image's shape.
    crop: the side of the square that the model sees.
    """

    size: int
    crop: int
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    squash: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocess:
        """Read ``preprocessor_config.json`` in its old or new form.

        Raises ValueError for steps that cannot be followed.
        """
        if not all(config.get(step, True) for step in ("do_resize", "do_rescale")):
            raise ValueError("its preprocessor skips resize or rescale")
        if abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6 or config.get("do_pad"):
            raise ValueError("its preprocessor rescales or pads in a way of its own")
        size, squash = _read_size(config.get("size", 224))
        crop = config.get("crop_size", 224) if config.get("do_center_crop", True) else size if squash else None
        if isinstance(crop, dict):
            crop = crop.get("height") if crop.get("height") == crop.get("width") else None
        normalises = config.get("do_normalize", True)
        mean, std = (config.get("image_mean", ()), config.get("image_std", ())) if normalises else ([0] * 3, [1] * 3)
        if not isinstance(size, int) or not isinstance(crop, int) or not 0 < crop <= size:
            raise ValueError("its preprocessor does not lead to a square of fixed size")
        if len(mean) != 3 or len(std) != 3 or not min(std) > 0:
            raise ValueError("its preprocessor does not normalise three colours")
        return cls(size, crop, Image.Resampling(config.get("resample", 3)), tuple(mean), tuple(std), squash)

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
        if self.squash:
            resized = (self.size, self.size)
        elif width <= height:
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


def _read_size(size: Any) -> tuple[Any, bool]:
    """Return the length in pixels, and whether it is that of both sides."""
    if not isinstance(size, Mapping):
        return size, False
    if (shortest := size.get("shortest_edge")) is not None:
        return shortest, False
    return (size.get("height"), True) if size.get("height") == size.get("width") else (None, True)
