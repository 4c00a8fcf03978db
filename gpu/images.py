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
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, UnidentifiedImageError

from gpu.imaging import colour_management, jpeg, png, tiff
from gpu.imaging.colour_conversion import Source, to_rgb
from gpu.imaging.errors import ImageProcessingError, too_many_bytes, too_much_memory
from gpu.imaging.formats import ACCEPTED, sniff, unsupported, webp_size
from gpu.imaging.limits import JPEG, MAX_ASPECT, MAX_PIXELS, MIN_SIDE, max_bytes
from gpu.imaging.profiles import Space

__all__ = ["DECODING", "ImageProcessingError", "decode", "decode_downscaled", "read_file", "register_decoders"]

# The version of the pixels that decoding gives. Raise it if some image gets other pixels than before: then `reindex`
# makes stored images again. 1: colour management, transparency over grey, inverted and deep images.
DECODING = 1

# Above these sizes the decoders of these kinds need more memory: they keep several copies of the image.
FRUGAL_PIXELS_OF_KIND = {
    "progressive JPEG": 25_000_000,
    "AVIF": 25_000_000,
    "HEIC": 25_000_000,
    "TIFF": 25_000_000,
    "WebP": 12_500_000,
}

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
# Texts from which Pillow would take an orientation where EXIF has none. No browser turns an image by them.
_METADATA_WITH_ORIENTATION = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")


@dataclass(slots=True)
class _Opened:
    """An image whose header is known to be within the limits. ``unusual``: a TIFF that is loaded already."""

    data: bytes
    kind: str
    image: Image.Image
    tags: tiff.Tags | None = None
    unusual: tiff.Unusual | None = None

    def load(self, draft: tuple[int, int] | None = None) -> Source:
        """Decode the pixels. With ``draft``, a JPEG may be decoded at a part of its size, but not below this one.

        Raises what decoders raise.
        """
        header = png.read_header(self.data) if self.kind == "PNG" else None
        mode = self.image.mode
        # A palette keeps its transparency. Other modes would convert it wrongly.
        level = self.image.info.pop("transparency", None) if mode != "P" else None
        if self.kind == "JPEG":
            self._load_jpeg(draft)
        else:
            self.image.load()
        if self.kind == "BMP" and mode == "RGBA" and self.image.getchannel("A").getextrema() == (0, 0):
            self.image = self.image.convert("RGB")  # a fourth byte that no program filled
        is_grey = header.is_grey if header else mode in {"1", "L", "LA", "La"} or mode.startswith(("I", "F"))
        space: Space = "CMYK" if mode == "CMYK" else "GRAY" if is_grey else "RGB"
        mask = self.unusual.alpha if self.unusual else _frame_mask(self.image) if self.kind == "GIF" else None
        transform = None
        if mode != "LAB":
            transform = colour_management.transform_of(self.image, space, self.data, self.kind)
        return Source(
            image=self.image,
            space=space,
            transform=transform,
            transparent_level=png.own_level(level, header) if header else level,
            mask=mask,
            is_inverted=self.tags is not None and mode.startswith(("I", "F")) and tiff.is_white_zero(self.tags),
        )

    def _load_jpeg(self, draft: tuple[int, int] | None) -> None:
        def load(data: bytes) -> Image.Image:
            image = Image.open(io.BytesIO(data), formats=_DECODERS["JPEG"])
            image.draft(None, draft)
            image.load()
            return image

        if jpeg.has_end(self.data):
            self.image.draft(None, draft)
            self.image.load()
        else:
            self.image = jpeg.load_without_end(self.data, load)

    def orientation(self) -> int:
        """Return the EXIF orientation of the loaded image, 1 to 8. Loading a TIFF or a HEIC already applies it."""
        if self.unusual is not None:
            return self.unusual.orientation
        try:
            orientation = self.image.getexif().get(ExifTags.Base.Orientation)
        except _DECODER_ERRORS:
            # Damaged metadata is no reason to reject an image whose pixels are whole.
            return 1
        return orientation if isinstance(orientation, int) else 1


def decode(source: bytes | Path | str, *, draft_side: int | None = None) -> Image.Image:
    """Decode the first frame of an image to upright sRGB.

    The result has 8 bits per channel, transparency over white (or grey, if white would hide the subject) and no
    metadata. ``source`` is the content of a file or its path. With ``draft_side`` a JPEG may be decoded at a half, a
    quarter or an eighth of its size, with its shorter side never below ``draft_side`` pixels. A JPEG of more than 40
    megapixels always is. Raises ImageProcessingError with the code not_an_image, unsupported_format, image_corrupt,
    image_too_large (over the limits in gpu/imaging/limits.py), image_too_small (a side under 16 pixels),
    image_aspect (longer than 50:1), or, for a path, file_missing or file_unreadable.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source))
    with _open_checked(data) as opened:
        size = opened.image.size
        draft = (draft_side, draft_side) if draft_side is not None else None
        if draft is None and size[0] * size[1] > MAX_PIXELS:
            draft = (size[0] // 2, size[1] // 2)
        loaded = opened.load(draft)
        if draft is None:
            # A frame can turn out larger or smaller than the file's header says.
            _check_size(*opened.image.size, opened.kind)
        return _apply_orientation(to_rgb(loaded), opened.orientation())


def decode_downscaled(
    data: bytes, side: int, on_costly: Callable[[], None] = lambda: None
) -> tuple[Image.Image, int, int]:
    """Decode an image only as large as scaling it down to ``side`` pixels needs.

    Otherwise like ``decode``. Return the image, and the width and height of the upright original. The longer side of
    the image is at least 1.5 × ``side`` if that of the original is. Needs the memory of the decoder and of one full
    image. ``on_costly`` is called before an image whose decoder keeps several copies of many pixels.
    """
    with _open_checked(data, on_costly) as opened:
        width, height = opened.image.size
        factor = _factor((width, height), side)
        loaded = opened.load((width // factor, height // factor) if factor > 1 else None)
        if opened.kind != "JPEG" or factor == 1:
            width, height = opened.image.size
            _check_size(width, height, opened.kind)
        orientation = opened.orientation()
        if orientation in _SIDEWAYS:
            width, height = height, width
        smaller = to_rgb(loaded, _factor(opened.image.size, side))
        return _apply_orientation(smaller, orientation), width, height


def _factor(size: tuple[int, int], side: int) -> int:
    """Return the integer factor by which an image can be reduced without visible loss.

    The fine scaling to ``side`` follows.
    """
    return max(1, 2 * max(size) // (3 * side))


@contextmanager
def _open_checked(data: bytes, on_costly: Callable[[], None] = lambda: None) -> Iterator[_Opened]:
    """Yield the image once its header is known to be within the limits.

    What a decoder raises within the block becomes an ImageProcessingError.
    """
    if len(data) > max_bytes(data[:3]):
        raise too_many_bytes(len(data), max_bytes(data[:3]))
    kind = sniff(data)
    register_decoders()
    if kind == "WebP":
        # The WebP decoder allocates two whole frames before it tells their size.
        size = webp_size(data)
        _check_size(*size, kind)
        if _is_costly(kind, *size):
            on_costly()
    try:
        yield _open(data, kind, on_costly)
    except Image.DecompressionBombError as error:
        raise ImageProcessingError(
            "image_too_large", f"The image has more than {MAX_PIXELS:,} pixels, which is the limit."
        ) from error
    except MemoryError as error:
        raise too_much_memory() from error
    except _DECODER_ERRORS as error:
        if "memory" in str(error).lower():  # as the decoders of AVIF and HEIC say it
            raise too_much_memory() from error
        if kind == "JPEG" and (reason := jpeg.unsupported_kind(data)) is not None:
            raise reason from error
        raise ImageProcessingError(
            "image_corrupt", f"The file looks like {kind}, but it is damaged and cannot be read completely."
        ) from error


def _open(data: bytes, kind: str, on_costly: Callable[[], None]) -> _Opened:
    """Read the header of an image and check its size. Raises what decoders raise."""
    tags, unusual = None, None
    if kind == "TIFF":
        tags = tiff.read_tags(data)
        if (name := tiff.raw_format(data, tags)) is not None:
            raise unsupported(f"The format camera raw ({name})")
    # Without `with`: the file is in memory, and the converted copy may be the image itself.
    try:
        file = io.BytesIO(png.without_colour_chunks(data) if kind == "PNG" else data)
        image: Image.Image = Image.open(file, formats=_DECODERS[kind])
    except UnidentifiedImageError:
        if tags is None:
            raise
        _check_size(tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength], kind)
        on_costly()
        unusual = tiff.open_unusual(data, tags)
        image = unusual.image
    if tags is not None and unusual is None:
        tags = tiff.seek_full_size(image)
    _check_size(*image.size, kind)
    if _is_costly("progressive JPEG" if "progressive" in image.info else kind, *image.size):
        on_costly()
    for name in _METADATA_WITH_ORIENTATION:
        image.info.pop(name, None)
    return _Opened(data, kind, image, tags, unusual)


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
        head = file.read(3)
        if size > max_bytes(head):
            raise too_many_bytes(size, max_bytes(head))
        return head + file.read()
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
    TiffImagePlugin.OPEN_INFO |= tiff.MORE_KINDS
    pillow_heif.register_heif_opener(thumbnails=False)
    # Images are decoded in parallel already, and each thread's memory counts towards the limit of the image.
    pillow_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _check_size(width: int, height: int, kind: str) -> None:
    max_pixels = JPEG.max_pixels if kind == "JPEG" else MAX_PIXELS
    if width * height > max_pixels:
        raise ImageProcessingError(
            "image_too_large", f"The image has {width}×{height} pixels, more than the limit of {max_pixels:,} in all."
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


def _frame_mask(image: Image.Image) -> Image.Image | None:
    """Return where the first frame of a loaded GIF is on its screen. None if it covers the screen."""
    extent = getattr(image, "dispose_extent", None)
    if extent is None or extent == (0, 0, *image.size):
        return None
    mask = Image.new("L", image.size)
    mask.paste(255, extent)
    return mask


def _apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    operation = _TRANSPOSE.get(orientation)
    return image if operation is None else image.transpose(operation)
