"""A loaded picture of any mode as RGB of 8 bits a channel: strip by strip, so that a large one is not held twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

# Pixels that are converted at once; what a conversion needs besides its input and output is a few times this.
STRIP_PIXELS = 1_000_000


def to_rgb(picture: Image.Image, factor: int = 1) -> Image.Image:
    """``picture`` as a new RGB picture without metadata, transparency over white.

    With ``factor`` each factor × factor pixels become their mean; a rest at the right and lower edge counts as
    a pixel of its own, as in ``PIL.Image.reduce``.
    """
    convert = _conversion(picture)
    width, height = picture.size
    rgb = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top, strip in _strips(picture, factor):
        part = convert(strip)
        rgb.paste(part.reduce(factor) if factor > 1 else part, (0, top // factor))
    return rgb


def _strips(picture: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """The picture's strips from the top, each with its first row; a strip's height is a multiple of ``multiple``."""
    width, height = picture.size
    rows = max(1, STRIP_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        yield top, picture.crop((0, top, width, min(top + rows, height)))


def _conversion(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """How this picture's strips become RGB."""
    if picture.mode.startswith(("I", "F")):
        full = _full_scale(picture)
        return lambda strip: Image.fromarray(_to_8_bits(strip, full)).convert("RGB")
    if picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return lambda strip: _transformed(strip, transform)
    if picture.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in picture.info:
        return _over_white
    return lambda strip: strip.convert("RGB")


def _transformed(strip: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    rgb = ImageCms.applyTransform(strip, transform)
    if rgb is None:  # only with inPlace, which the type cannot say
        raise ValueError("the LAB picture was not converted")
    return rgb


def _over_white(strip: Image.Image) -> Image.Image:
    # RGBa and La have no direct way to RGB; RGBA is the common ground of all modes with transparency.
    rgba = strip.convert("RGBA")
    rgb = Image.new("RGB", strip.size, "white")
    rgb.paste(rgba, mask=rgba.getchannel("A"))
    return rgb


def _levels(strip: Image.Image) -> npt.NDArray[np.float32]:
    """Grey levels as (h, w) float32; what is no number is black."""
    return np.nan_to_num(np.asarray(strip, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _full_scale(picture: Image.Image) -> float:
    """The level that is white, of a picture of more than 8 bits a level.

    It is what the file declares (12 or 16 bits); for whole numbers of 32 bits and for floats, which declare
    none, it is the first of 1 (floats only), 255 and 65535 that holds the brightest pixel, or that pixel itself.
    """
    brightest = max(float(_levels(strip).max()) for _, strip in _strips(picture))
    if picture.mode.startswith("I;"):
        bits = getattr(picture, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
        scales = [float((1 << (bits[0] if isinstance(bits, tuple) else bits)) - 1)]
    else:
        scales = [1.0, 255.0, 65535.0] if picture.mode == "F" else [255.0, 65535.0]
    return next((scale for scale in scales if brightest <= scale), brightest)


def _to_8_bits(strip: Image.Image, full: float) -> npt.NDArray[np.uint8]:
    """Grey levels as (h, w) uint8, where ``full`` is white and what is below 0 is black."""
    levels: npt.NDArray[np.uint8] = np.clip(np.rint(_levels(strip) * (255.0 / full)), 0, 255).astype(np.uint8)
    return levels
