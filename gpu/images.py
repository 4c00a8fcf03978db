"""Decode one image to upright RGB within limits, or raise a typed error."""

from __future__ import annotations

import functools
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image

from gpu.imaging.colour_conversion import to_rgb
from gpu.imaging.errors import MAX_BYTES, ImageProcessingError, too_many_bytes, too_much_memory
from gpu.imaging.formats import ACCEPTED, sniff, webp_size

__all__ = ["ImageProcessingError", "decode", "decode_downscaled", "read_file", "register_decoders"]

MAX_PIXELS = 40_000_000
# Above these sizes the decoders of these kinds need more memory: they keep several copies of the image.
FRUGAL_PIXELS_OF_KIND = {
    "progressive JPEG": 25_000_000,
    "AVIF": 25_000_000,
    "HEIC": 25_000_000,
    "TIFF": 25_000_000,
    "WebP": 12_500_000,
}
MIN_SIDE = 16
MAX_ASPECT = 50

# The only Pillow decoders that may read a file of each accepted kind.
_DECODERS = {kind: (kind.upper(),) for kind in ACCEPTED} | {"JPEG": ("JPEG", "MPO"), "HEIC": ("HEIF",)}

# What decoders raise for broken files, found with fuzzed corpora. Pillow documents only some of it.
_DECODER_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    RuntimeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Pillow warns of odd metadata and large sizes. Here an image is either accepted or rejected with a code.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}


def decode(source: bytes | Path | str, *, draft_side: int | None = None) -> Image.Image:
    """Decode the first frame of an image to upright RGB.

    The result has 8 bits per channel, transparency over white and no metadata. ``source`` is the content of a file or
    its path. With ``draft_side`` a JPEG may be decoded at a half, a quarter or an eighth of its size, with its shorter
    side never below ``draft_side`` pixels. Raises ImageProcessingError with the code not_an_image, unsupported_format,
    image_corrupt, image_too_large (over 20 MiB or 40 megapixels), image_too_small (a side under 16 pixels),
    image_aspect (longer than 50:1), or, for a path, file_missing or file_unreadable.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source))
    with _open_checked(data) as (image, kind):
        if draft_side is not None and kind == "JPEG":
            image.draft(None, (draft_side, draft_side))
        image.load()
        if draft_side is None:
            # A frame can turn out larger or smaller than the file's header says.
            _check_size(*image.size)
        return _apply_orientation(to_rgb(image), _orientation(image))


def decode_downscaled(
    data: bytes, side: int, on_costly: Callable[[], None] = lambda: None
) -> tuple[Image.Image, int, int]:
    """Decode an image only as large as scaling it down to ``side`` pixels needs.

    Otherwise like ``decode``. Return the image, and the width and height of the upright original. The longer side of
    the image is at least 1.5 × ``side`` if that of the original is. Needs the memory of the decoder and of one full
    image. ``on_costly`` is called before an image whose decoder keeps several copies of many pixels.
    """
    with _open_checked(data, on_costly) as (image, kind):
        width, height = image.size
        factor = _factor(image.size, side)
        if kind == "JPEG" and factor > 1:
            image.draft(None, (width // factor, height // factor))
        drafted = image.size != (width, height)
        image.load()
        if not drafted:
            width, height = image.size
            _check_size(width, height)
        orientation = _orientation(image)
        if orientation in _SIDEWAYS:
            width, height = height, width
        smaller = to_rgb(image, _factor(image.size, side))
        return _apply_orientation(smaller, orientation), width, height


def _factor(size: tuple[int, int], side: int) -> int:
    """Return the integer factor by which an image can be reduced without visible loss.

    The fine scaling to ``side`` follows.
    """
    return max(1, 2 * max(size) // (3 * side))


@contextmanager
def _open_checked(data: bytes, on_costly: Callable[[], None] = lambda: None) -> Iterator[tuple[Image.Image, str]]:
    """Yield the image and its kind once its header is known to be within the limits.

    What a decoder raises within the block becomes an ImageProcessingError.
    """
    if len(data) > MAX_BYTES:
        raise too_many_bytes(len(data))
    kind = sniff(data)
    register_decoders()
    if kind == "WebP":
        # The WebP decoder allocates two whole frames before it tells their size.
        size = webp_size(data)
        _check_size(*size)
        if _is_costly(kind, *size):
            on_costly()
    try:
        # Without `with`: the file is in memory, and the converted copy may be the image itself.
        image = Image.open(io.BytesIO(data), formats=_DECODERS[kind])
        _check_size(*image.size)
        if _is_costly("progressive JPEG" if "progressive" in image.info else kind, *image.size):
            on_costly()
        yield image, kind
    except Image.DecompressionBombError as error:
        raise ImageProcessingError(
            "image_too_large", f"The image has more than {MAX_PIXELS:,} pixels, which is the limit."
        ) from error
    except MemoryError as error:
        raise too_much_memory() from error
    except _DECODER_ERRORS as error:
        if "memory" in str(error).lower():  # as the decoders of AVIF and HEIC say it
            raise too_much_memory() from error
        raise ImageProcessingError(
            "image_corrupt", f"The file looks like {kind}, but it is damaged and cannot be read completely."
        ) from error


def read_file(path: Path) -> bytes:
    """Return the content of an image file.

    Raises ImageProcessingError with file_missing, file_unreadable or image_too_large.
    """
    try:
        with path.open("rb") as file:
            return read_stream(file, path.name)
    except OSError as error:
        raise unreadable(error, path.name) from error


def read_stream(file: IO[bytes], name: str) -> bytes:
    """Return the content of an open file. Raises ImageProcessingError like ``read_file``."""
    try:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise too_many_bytes(size)
        return file.read()
    except OSError as error:
        raise unreadable(error, name) from error


def unreadable(error: OSError, name: str) -> ImageProcessingError:
    """Return the error for an image's file that cannot be opened or read."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ImageProcessingError("file_missing", f"The image file {name} does not exist.")
    return ImageProcessingError("file_unreadable", f"The image file {name} cannot be read: {error.strerror or error}.")


@functools.cache
def register_decoders() -> None:
    """Load the decoders in use, and everything that they would load later."""
    import pillow_heif
    from PIL import AvifImagePlugin, ImageOps, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    Image.preinit()
    pillow_heif.register_heif_opener(thumbnails=False)
    # Images are decoded in parallel already, and each thread's memory counts towards the limit of the image.
    pillow_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageProcessingError(
            "image_too_large", f"The image has {width}×{height} pixels, more than the limit of {MAX_PIXELS:,} in all."
        )
    if min(width, height) < MIN_SIDE:
        raise ImageProcessingError(
            "image_too_small", f"The image has {width}×{height} pixels. Each side needs at least {MIN_SIDE}."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageProcessingError(
            "image_aspect", f"The image has {width}×{height} pixels, longer than the limit of {MAX_ASPECT}:1."
        )


def _is_costly(kind: str, width: int, height: int) -> bool:
    return width * height > FRUGAL_PIXELS_OF_KIND.get(kind, MAX_PIXELS)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 to 8.

    Loading a TIFF or a HEIC already applies it.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _DECODER_ERRORS:
        # Damaged metadata is no reason to reject an image whose pixels are whole.
        return 1
    return orientation if isinstance(orientation, int) else 1


def _apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    operation = _TRANSPOSE.get(orientation)
    return image if operation is None else image.transpose(operation)
