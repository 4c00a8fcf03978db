"""Convert a loaded image of any mode to 8-bit RGB, strip by strip so that large images need little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

# Pixels converted at once. A conversion needs a few times this in memory besides its input and output.
STRIP_PIXELS = 1_000_000


def to_rgb(image: Image.Image, factor: int = 1) -> Image.Image:
    """Return a new RGB image without metadata, with transparency over white.

    With ``factor``, each block of factor × factor pixels becomes its mean. An incomplete block at the right or lower
    edge becomes a pixel of its own, as in ``PIL.Image.reduce``.
    """
    convert = _conversion(image)
    width, height = image.size
    rgb = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top, strip in _strips(image, factor):
        part = convert(strip)
        rgb.paste(part.reduce(factor) if factor > 1 else part, (0, top // factor))
    return rgb


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips from the top, each with its first row.

    Their height is a multiple of ``multiple``.
    """
    width, height = image.size
    rows = max(1, STRIP_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return the function that converts a strip of this image to RGB."""
    if image.mode.startswith(("I", "F")):
        full = _full_scale(image)
        return lambda strip: Image.fromarray(_to_8_bits(strip, full)).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return lambda strip: _transformed(strip, transform)
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        return _over_white
    return lambda strip: strip.convert("RGB")


def _transformed(strip: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    rgb = ImageCms.applyTransform(strip, transform)
    if rgb is None:  # only with inPlace, which the type does not say
        raise ValueError("the LAB image was not converted")
    return rgb


def _over_white(strip: Image.Image) -> Image.Image:
    # RGBa and La cannot be converted to RGB directly; every mode with transparency can become RGBA.
    rgba = strip.convert("RGBA")
    rgb = Image.new("RGB", strip.size, "white")
    rgb.paste(rgba, mask=rgba.getchannel("A"))
    return rgb


def _levels(strip: Image.Image) -> npt.NDArray[np.float32]:
    """Return grey levels as (h, w) float32. NaN and infinity become black."""
    return np.nan_to_num(np.asarray(strip, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _full_scale(image: Image.Image) -> float:
    """Return the level that means white in an image of more than 8 bits per level.

    It is what the file declares (12 or 16 bits). 32-bit integers and floats declare none: for them it is the first
    of 1 (floats only), 255 and 65535 that is at least as bright as every pixel, or else the brightest pixel.
    """
    brightest = max(float(_levels(strip).max()) for _, strip in _strips(image))
    if image.mode.startswith("I;"):
        bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
        scales = [float((1 << (bits[0] if isinstance(bits, tuple) else bits)) - 1)]
    else:
        scales = [1.0, 255.0, 65535.0] if image.mode == "F" else [255.0, 65535.0]
    return next((scale for scale in scales if brightest <= scale), brightest)


def _to_8_bits(strip: Image.Image, full: float) -> npt.NDArray[np.uint8]:
    """Return grey levels as (h, w) uint8. ``full`` is white; levels below 0 are black."""
    levels: npt.NDArray[np.uint8] = np.clip(np.rint(_levels(strip) * (255.0 / full)), 0, 255).astype(np.uint8)
    return levels
