"""One picture: sniff, bound and decode it to upright RGB, or say with a code why not."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image

from gpu.imaging.colour_conversion import to_rgb
from gpu.imaging.errors import MAX_BYTES, ImageProcessingError, too_many_bytes, too_much_memory
from gpu.imaging.formats import ACCEPTED, sniff, webp_size

__all__ = ["ImageProcessingError", "decode", "decode_downscaled", "read_file", "register_decoders"]

MAX_PIXELS = 40_000_000
# More of these kinds takes more memory than other pictures: their decoders keep several copies of the whole picture.
FRUGAL_PIXELS_OF_KIND = {
    "progressive JPEG": 25_000_000,
    "AVIF": 25_000_000,
    "HEIC": 25_000_000,
    "TIFF": 25_000_000,
    "WebP": 12_500_000,
}
MIN_SIDE = 16
MAX_ASPECT = 50

# Which of Pillow's decoders may read which accepted kind; no other decoder is ever tried on a file.
_DECODERS = {kind: (kind.upper(),) for kind in ACCEPTED} | {"JPEG": ("JPEG", "MPO"), "HEIC": ("HEIF",)}

# What decoders raise on broken files besides OSError, found on fuzzed corpora; Pillow promises none of them.
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

# Pillow warns of odd metadata and of sizes between its two bounds; here a picture is taken or refused with a code.
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
    """Decode the first frame of a picture in full: upright, RGB, 8 bits a channel, transparency over white.

    ``source`` is the file's content or its path. The answer carries no metadata. With ``draft_side`` a JPEG
    may be decoded at a half, a quarter or an eighth of its size, its shorter side never below ``draft_side``
    pixels. Raises ImageProcessingError with the code not_an_image, unsupported_format, image_corrupt,
    image_too_large (over 20 MiB or 40 megapixels), image_too_small (a side under 16 pixels), image_aspect
    (longer than 50:1), or, for a path, file_missing or file_unreadable.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source))
    with _open_checked(data) as (picture, kind):
        if draft_side is not None and kind == "JPEG":
            picture.draft(None, (draft_side, draft_side))
        picture.load()
        if draft_side is None:
            # A frame can turn out larger or smaller than the file's header says.
            _check_size(*picture.size)
        return _apply_orientation(to_rgb(picture), _orientation(picture))


def decode_downscaled(
    data: bytes, side: int, on_costly: Callable[[], None] = lambda: None
) -> tuple[Image.Image, int, int]:
    """Decode like ``decode``, but a large picture only as large as its reduction to ``side`` pixels needs.

    Answers the picture, whose longer side is at least 1.5 × ``side`` where the original's is, and the upright
    original's width and height. The memory that it takes is that of the decoder and of one full picture;
    ``on_costly`` is called before a picture whose decoder keeps several copies of many pixels.
    """
    with _open_checked(data, on_costly) as (picture, kind):
        width, height = picture.size
        factor = _factor(picture.size, side)
        if kind == "JPEG" and factor > 1:
            picture.draft(None, (width // factor, height // factor))
        drafted = picture.size != (width, height)
        picture.load()
        if not drafted:
            width, height = picture.size
            _check_size(width, height)
        orientation = _orientation(picture)
        if orientation in _SIDEWAYS:
            width, height = height, width
        smaller = to_rgb(picture, _factor(picture.size, side))
        return _apply_orientation(smaller, orientation), width, height


def _factor(size: tuple[int, int], side: int) -> int:
    """By which whole factor a picture can be reduced before the fine scaling to ``side`` without looking worse."""
    return max(1, 2 * max(size) // (3 * side))


@contextmanager
def _open_checked(data: bytes, on_costly: Callable[[], None] = lambda: None) -> Iterator[tuple[Image.Image, str]]:
    """The picture with its header read and found within the bounds, and its kind.

    Whatever a decoder raises in the block becomes an ImageProcessingError.
    """
    if len(data) > MAX_BYTES:
        raise too_many_bytes(len(data))
    kind = sniff(data)
    register_decoders()
    if kind == "WebP":
        # Its decoder takes memory for two whole frames before it tells their size.
        size = webp_size(data)
        _check_size(*size)
        if _is_costly(kind, *size):
            on_costly()
    try:
        # Not Image.open's `with`: the file is in memory, and the converted copy may be the picture itself.
        picture = Image.open(io.BytesIO(data), formats=_DECODERS[kind])
        _check_size(*picture.size)
        if _is_costly("progressive JPEG" if "progressive" in picture.info else kind, *picture.size):
            on_costly()
        yield picture, kind
    except Image.DecompressionBombError as error:
        raise ImageProcessingError(
            "image_too_large", f"The picture has more than {MAX_PIXELS:,} pixels; that is the limit."
        ) from error
    except MemoryError as error:
        raise too_much_memory() from error
    except _DECODER_ERRORS as error:
        if "memory" in str(error).lower():  # the decoders of AVIF and HEIC say it in words
            raise too_much_memory() from error
        raise ImageProcessingError(
            "image_corrupt", f"The file looks like {kind}, but it is damaged and cannot be read in full."
        ) from error


def read_file(path: Path) -> bytes:
    """The content of a picture's file. Raises ImageProcessingError: file_missing, file_unreadable, image_too_large."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise too_many_bytes(size)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageProcessingError("file_missing", f"The picture's file {path.name} is not there.") from error
    except OSError as error:
        raise ImageProcessingError(
            "file_unreadable", f"The picture's file {path.name} cannot be read: {error.strerror or error}."
        ) from error


@functools.cache
def register_decoders() -> None:
    """Load every decoder that is used and everything that they would load later, and none else."""
    import pillow_heif
    from PIL import AvifImagePlugin, ImageOps, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    Image.preinit()
    pillow_heif.register_heif_opener(thumbnails=False)
    # Pictures are decoded side by side already; and a thread's stack and heap count as memory of the picture.
    pillow_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageProcessingError(
            "image_too_large", f"The picture has {width}×{height} pixels; the limit is {MAX_PIXELS:,} in all."
        )
    if min(width, height) < MIN_SIDE:
        raise ImageProcessingError(
            "image_too_small", f"The picture has {width}×{height} pixels; each side needs at least {MIN_SIDE}."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageProcessingError(
            "image_aspect", f"The picture has {width}×{height} pixels; the limit is {MAX_ASPECT}:1."
        )


def _is_costly(kind: str, width: int, height: int) -> bool:
    return width * height > FRUGAL_PIXELS_OF_KIND.get(kind, MAX_PIXELS)


def _orientation(picture: Image.Image) -> int:
    """How a loaded picture must be turned, 1 to 8 (a TIFF and a HEIC were turned by their loading)."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except _DECODER_ERRORS:
        # A picture whose pixels are whole is not refused for its metadata: it stays as it is stored.
        return 1
    return orientation if isinstance(orientation, int) else 1


def _apply_orientation(picture: Image.Image, orientation: int) -> Image.Image:
    operation = _TRANSPOSE.get(orientation)
    return picture if operation is None else picture.transpose(operation)
