"""Find the colour space that a file names, and the transform from it to sRGB.

A profile that is broken, incomplete, or made for another kind of pixels is passed over, as viewers do.
"""

from __future__ import annotations

import functools
import io
import struct

import numpy as np
from PIL import Image, ImageCms

from gpu.imaging import png, profiles
from gpu.imaging.profiles import Space

Transform = ImageCms.ImageCmsTransform

# The mode of Pillow with the channels of each space.
MODES: dict[Space, str] = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

# A transform that changes no colour by more than this is left out. An sRGB profile rounds by one level.
_UNSEEN_LEVELS = 2
_INTENT = ImageCms.Intent.PERCEPTUAL


def transform_of(image: Image.Image, space: Space, data: bytes, kind: str) -> Transform | None:
    """Return the transform to sRGB of an opened image, or None if its colours are sRGB's."""
    profile = _named_profile(image, space, data, kind)
    if not isinstance(profile, bytes) or not profiles.fits(profile, space):
        return None
    return _transform(profile, space)


def _named_profile(image: Image.Image, space: Space, data: bytes, kind: str) -> object:
    """Return the profile that the file contains or names. It may be anything but valid."""
    if kind == "PNG":
        return png.named_profile(data, space)
    if profile := image.info.get("icc_profile"):
        return profile
    if kind in {"AVIF", "HEIC"} and space != "CMYK" and (points := _nclx(data)):
        return profiles.profile_of_code_points(*points, space == "GRAY")
    return None


@functools.lru_cache(maxsize=4)
def _transform(profile: bytes, space: Space) -> Transform | None:
    """Return the transform of a profile, or None if it cannot be used or changes nothing.

    Most images share few profiles, and building a transform takes 1 to 50 ms.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, _srgb(), MODES[space], "RGB", renderingIntent=_INTENT)
        return None if space != "CMYK" and _changes_nothing(transform, space) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_nothing(transform: Transform, space: Space) -> bool:
    """Return whether the transform leaves all colours as they are."""
    if space == "GRAY":
        probe = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        probe = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3))
    before, after = (np.asarray(image, np.int16) for image in (probe.convert("RGB"), apply(probe, transform)))
    return int(np.abs(before - after).max()) <= _UNSEEN_LEVELS


def apply(image: Image.Image, transform: Transform) -> Image.Image:
    """Return the image in sRGB. It has the mode of the transform's space."""
    rgb = ImageCms.applyTransform(image, transform)
    if rgb is None:  # only with inPlace, which the type does not say
        raise ValueError("the colours were not converted")
    return rgb


# --- AVIF and HEIC ---------------------------------------------------------------------------------

_NCLX_HEAD_BYTES = 64 * 1024


def _nclx(data: bytes) -> tuple[int, int] | None:
    """Return primaries and transfer of the first image that names them (ISO/IEC 23001-8, the box colr)."""
    at = data.find(b"colrnclx", 0, _NCLX_HEAD_BYTES)
    if at < 0 or at + 14 > len(data):
        return None
    primaries, transfer = struct.unpack_from(">HH", data, at + 8)
    return primaries, transfer
