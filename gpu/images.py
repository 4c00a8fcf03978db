"""One picture: sniff, bound and decode it to upright RGB, or say with a code why not."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 40_000_000
MIN_SIDE = 16
MAX_ASPECT = 50

ACCEPTED = ("JPEG", "PNG", "WebP", "AVIF", "HEIC", "GIF", "TIFF", "BMP")

# Which of Pillow's decoders may read which accepted kind; no other decoder is ever tried on a file.
_DECODERS = {kind: (kind.upper(),) for kind in ACCEPTED} | {"JPEG": ("JPEG", "MPO"), "HEIC": ("HEIF",)}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# Kinds of pictures that are known and not taken: who sends one should hear so instead of "not an image".
_OTHER_SIGNATURES = (
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x01\x00", "icon"),
    (b"\x00\x00\x02\x00", "cursor"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"DDS ", "DDS"),
    (b"icns", "icon"),
    (b"gimp xcf", "GIMP"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance"),
    (b"qoif", "QOI"),
    (b"farbfeld", "farbfeld"),
    (b"\x01\xda", "SGI"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\x0a\x05\x01", "PCX"),
    *((b"P%d%c" % (n, space), "Netpbm") for n in range(1, 8) for space in b"\n\r\t "),
)

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
    MemoryError,
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


class ImageProcessingError(Exception):
    """A picture that cannot be used. ``code`` is stable (see the API's codes), ``message`` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def decode(source: bytes | Path | str, *, draft_side: int | None = None) -> Image.Image:
    """Decode the first frame of a picture in full: upright, RGB, 8 bits a channel, transparency over white.

    ``source`` is the file's content or its path. The answer carries no metadata. With ``draft_side`` a JPEG
    may be decoded at a half, a quarter or an eighth of its size, its shorter side never below ``draft_side``
    pixels. Raises ImageProcessingError with the code not_an_image, unsupported_format, image_corrupt,
    image_too_large (over 20 MiB or 40 megapixels), image_too_small (a side under 16 pixels), image_aspect
    (longer than 50:1), or, for a path, file_missing or file_unreadable.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source))
    if len(data) > MAX_BYTES:
        raise _too_many_bytes(len(data))
    kind = _sniff(data)
    _register_heif()
    try:
        # Not Image.open's `with`: the file is in memory, and the converted copy may be the picture itself.
        picture = Image.open(io.BytesIO(data), formats=_DECODERS[kind])
        _check_size(*picture.size)
        if draft_side is not None and kind == "JPEG":
            picture.draft(None, (draft_side, draft_side))
        picture.load()
        upright = _upright(picture)
        rgb = _to_rgb(upright)
    except Image.DecompressionBombError as error:
        raise ImageProcessingError(
            "image_too_large", f"The picture has more than {MAX_PIXELS:,} pixels; that is the limit."
        ) from error
    except _DECODER_ERRORS as error:
        raise ImageProcessingError(
            "image_corrupt", f"The file looks like {kind}, but it is damaged and cannot be read in full."
        ) from error
    if draft_side is None:
        # A frame can turn out larger or smaller than the file's header says.
        _check_size(*rgb.size)
    return rgb


def read_file(path: Path) -> bytes:
    """The content of a picture's file. Raises ImageProcessingError: file_missing, file_unreadable, image_too_large."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_many_bytes(size)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageProcessingError("file_missing", f"The picture's file {path.name} is not there.") from error
    except OSError as error:
        raise ImageProcessingError(
            "file_unreadable", f"The picture's file {path.name} cannot be read: {error.strerror or error}."
        ) from error


def _too_many_bytes(size: int) -> ImageProcessingError:
    return ImageProcessingError(
        "image_too_large", f"The file has {size / 2**20:.1f} MiB; the limit is {MAX_BYTES // 2**20} MiB."
    )


def _sniff(data: bytes) -> str:
    """The accepted kind that the first bytes announce. Raises not_an_image or unsupported_format."""
    head = data[:512]
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    accepted = f"Accepted are {', '.join(ACCEPTED)}."
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
        raise ImageProcessingError("unsupported_format", f"The file is a film or another media file. {accepted}")
    other = next((name for signature, name in _OTHER_SIGNATURES if head.startswith(signature)), None)
    if other is None and b"<svg" in head.lower():
        other = "SVG"
    if other is not None:
        raise ImageProcessingError("unsupported_format", f"The file is of the kind {other}. {accepted}")
    raise ImageProcessingError("not_an_image", f"The file is not a picture. {accepted}")


@functools.cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


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


def _upright(picture: Image.Image) -> Image.Image:
    """Turn and mirror a loaded picture as its EXIF or XMP orientation asks (a TIFF was turned by its loading)."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except _DECODER_ERRORS:
        # A picture whose pixels are whole is not refused for its metadata: it stays as it is stored.
        orientation = None
    operation = _TRANSPOSE.get(orientation) if isinstance(orientation, int) else None
    return picture if operation is None else picture.transpose(operation)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """A loaded picture of any mode as a new RGB picture without metadata."""
    mode = picture.mode
    if mode.startswith(("I", "F")):
        rgb = Image.fromarray(_to_8_bits(picture)).convert("RGB")
    elif mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        if converted is None:  # only with inPlace, which the type cannot say
            raise ValueError("the LAB picture was not converted")
        rgb = converted
    elif mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in picture.info:
        # RGBa and La have no direct way to RGB; RGBA is the common ground of all modes with transparency.
        rgba = picture.convert("RGBA")
        rgb = Image.new("RGB", picture.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = picture.convert("RGB")
    rgb.info = {}
    rgb.getexif().clear()
    return rgb


def _to_8_bits(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Grey levels of more than 8 bits as (h, w) uint8.

    Full scale is what the file declares (12 or 16 bits); for whole numbers of 32 bits and for floats, which
    declare none, it is the first of 1 (floats only), 255 and 65535 that holds the brightest pixel, or that
    pixel itself. What is below 0 or no number is black.
    """
    levels = np.nan_to_num(np.asarray(picture, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    brightest = float(levels.max())
    if picture.mode.startswith("I;"):
        bits = getattr(picture, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
        scales = [float((1 << (bits[0] if isinstance(bits, tuple) else bits)) - 1)]
    else:
        scales = [1.0, 255.0, 65535.0] if picture.mode == "F" else [255.0, 65535.0]
    full = next((scale for scale in scales if brightest <= scale), brightest)
    return np.clip(np.rint(levels * (255.0 / full)), 0, 255).astype(np.uint8)
