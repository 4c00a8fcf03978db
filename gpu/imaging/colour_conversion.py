"""Convert a loaded image of any mode to 8-bit sRGB, strip by strip so that large images need little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageChops, ImageCms

from gpu.imaging import colour_management
from gpu.imaging.colour_management import Transform
from gpu.imaging.profiles import Space

# Pixels converted at once. A conversion needs a few times this in memory besides its input and output.
STRIP_PIXELS = 1_000_000

# What is behind transparent pixels: white, or grey if the subject would vanish in white. It vanishes if less than this
# share of it would be darker than this level in any channel.
WHITE, GREY = (255, 255, 255), (128, 128, 128)
VISIBLE_SHARE = 0.02
VISIBLE_BELOW = 230
_SAMPLE_SIDE = 256  # pixels across of the sample by which this is decided

_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}


@dataclass(frozen=True, slots=True)
class Source:
    """A loaded image and what its file says of its pixels.

    ``transparent_level``: the level or colour that means transparent, in the image's own levels. ``mask``: a mode L
    image that is 0 where nothing is to be seen. ``is_inverted``: 0 means white, and the decoder left it so.
    """

    image: Image.Image
    space: Space
    transform: Transform | None = None
    transparent_level: int | tuple[int, ...] | None = None
    mask: Image.Image | None = None
    is_inverted: bool = False


def to_rgb(source: Source, factor: int = 1) -> Image.Image:
    """Return a new sRGB image without metadata, with transparency over white or grey.

    With ``factor``, each block of factor × factor pixels becomes its mean. An incomplete block at the right or lower
    edge becomes a pixel of its own, as in ``PIL.Image.reduce``.
    """
    levels, alpha = _levels_of(source), _alpha_of(source)
    transform = source.transform
    width, height = source.image.size
    rgb = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    background = _background(source, levels, alpha) if alpha is not None else WHITE
    for top, strip in _strips(source.image, factor):
        part = levels(strip)
        if alpha is None:
            # First reduce, since the transform costs more.
            part = _in_srgb(part.reduce(factor) if factor > 1 else part, transform)
        else:
            mask = source.mask.crop((0, top, width, top + strip.height)) if source.mask is not None else None
            part = _over(background, _in_srgb(part, transform), alpha(strip, mask))
            part = part.reduce(factor) if factor > 1 else part
        rgb.paste(part, (0, top // factor))
    return rgb


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips from the top, each with its first row.

    Their height is a multiple of ``multiple``.
    """
    width, height = image.size
    rows = max(1, STRIP_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _in_srgb(part: Image.Image, transform: Transform | None) -> Image.Image:
    return colour_management.apply(part, transform) if transform is not None else part.convert("RGB")


# --- levels ----------------------------------------------------------------------------------------


def _levels_of(source: Source) -> Callable[[Image.Image], Image.Image]:
    """Return the function that gives a strip's colours: mode L, RGB or CMYK in the file's own colour space."""
    image = source.image
    if image.mode.startswith(("I", "F")):
        full = _full_scale(image)
        return lambda strip: Image.fromarray(_to_8_bits(strip, full, source.is_inverted))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return lambda strip: colour_management.apply(strip, transform)
    wanted = colour_management.MODES[source.space]
    # RGBa and La cannot be converted to RGB directly.
    if image.mode in {"La", "LA"}:
        return lambda strip: strip.convert("LA").getchannel("L").convert(wanted)
    if image.mode in {"P", "PA", "RGBa"}:
        return lambda strip: strip.convert("RGBA").convert(wanted)
    return lambda strip: strip if strip.mode == wanted else strip.convert(wanted)


def _full_scale(image: Image.Image) -> float:
    """Return the level that means white in an image of more than 8 bits per level.

    It is what the file declares (12 or 16 bits). 32-bit integers and floats declare none: for them it is the first
    of 1 (floats only), 255 and 65535 that is at least as bright as every pixel, or else the brightest pixel.
    """
    brightest = max(float(_numbers(strip).max()) for _, strip in _strips(image))
    if image.mode.startswith("I;"):
        bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
        scales = [float((1 << (bits[0] if isinstance(bits, tuple) else bits)) - 1)]
    else:
        scales = [1.0, 255.0, 65535.0] if image.mode == "F" else [255.0, 65535.0]
    return next((scale for scale in scales if brightest <= scale), brightest)


def _numbers(strip: Image.Image) -> npt.NDArray[np.float32]:
    """Return grey levels as (h, w) float32. NaN and infinity become black."""
    return np.nan_to_num(np.asarray(strip, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _to_8_bits(strip: Image.Image, full: float, is_inverted: bool) -> npt.NDArray[np.uint8]:
    """Return grey levels as (h, w) uint8. ``full`` is white; levels below 0 are black."""
    levels: npt.NDArray[np.uint8] = np.clip(np.rint(_numbers(strip) * (255.0 / full)), 0, 255).astype(np.uint8)
    return 255 - levels if is_inverted else levels


# --- transparency ----------------------------------------------------------------------------------

Alpha = Callable[[Image.Image, Image.Image | None], Image.Image]


def _alpha_of(source: Source) -> Alpha | None:
    """Return the function that gives a strip's transparency as mode L, or None for an image without any."""
    image, key = source.image, source.transparent_level
    own: Callable[[Image.Image], Image.Image] | None = None
    if image.mode in _WITH_ALPHA:
        own = _alpha_channel
    elif key is not None:
        own = lambda strip: _where_not(strip, key)  # noqa: E731  # shorter than a function for one use
    elif image.mode == "P" and "transparency" in image.info:
        own = _alpha_channel
    if own is None:
        return (lambda _, mask: mask or Image.new("L", _.size, 255)) if source.mask is not None else None
    from_file = own
    return lambda strip, mask: from_file(strip) if mask is None else ImageChops.darker(from_file(strip), mask)


def _alpha_channel(strip: Image.Image) -> Image.Image:
    return strip.convert("LA" if strip.mode in {"La", "LA"} else "RGBA").getchannel("A")


def _where_not(strip: Image.Image, key: int | tuple[int, ...]) -> Image.Image:
    """Return 255 where the pixels are not ``key``, else 0."""
    levels = np.asarray(strip if strip.mode != "1" else strip.convert("L"))
    differs = levels != np.asarray(key, levels.dtype)
    if differs.ndim == 3:
        differs = differs.any(axis=2)
    return Image.fromarray(differs.astype(np.uint8) * 255)


def _background(source: Source, levels: Callable[[Image.Image], Image.Image], alpha: Alpha) -> tuple[int, int, int]:
    """Return the colour behind transparent pixels: white, or grey if the subject would vanish in white.

    A sample of pixels decides. Each counts by how opaque it is.
    """
    width, height = source.image.size
    size = (min(width, _SAMPLE_SIDE), min(height, _SAMPLE_SIDE))
    sample = source.image.resize(size, Image.Resampling.NEAREST)
    mask = source.mask.resize(size, Image.Resampling.NEAREST) if source.mask is not None else None
    cover = alpha(sample, mask)
    over_white = _over(WHITE, _in_srgb(levels(sample), source.transform), cover)
    weight = np.asarray(cover, np.float32)
    visible = np.asarray(over_white).min(axis=2) < VISIBLE_BELOW
    has_subject = weight.any()
    return GREY if has_subject and weight[visible].sum() < VISIBLE_SHARE * weight.sum() else WHITE


def _over(background: tuple[int, int, int], rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    result = Image.new("RGB", rgb.size, background)
    result.paste(rgb, mask=alpha)
    return result
