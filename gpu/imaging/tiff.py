"""Tell camera raw files from TIFFs, and read the kinds of TIFF that Pillow does not know."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from gpu.imaging.formats import unsupported

Tags = TiffImagePlugin.ImageFileDirectory_v2

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _MAKE = 256, 257, 258, 259, 262, 266, 271
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 274, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 284, 317, 322, 323, 324, 325
_SUBFILE_TYPE, _SUB_IFDS, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC, _DNG_VERSION = 254, 330, 338, 339, 34675, 50706

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _CMYK = 0, 1, 5
_NAMES_OF_PHOTOMETRIC = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "Lab"}
_NAMES_OF_FORMAT = {1: "", 2: "signed ", 3: "float "}
_NO_ALPHA, _PREMULTIPLIED = 0, 1
_RAW_PHOTOMETRIC = {32803, 34892}  # colour filter array, linear raw
_RAW_COMPRESSION = {32767, 32769, 34713, 65000, 65535}  # Sony, Epson, Nikon, Kodak, Pentax
# The makers of cameras whose raw files are TIFFs, with the names of their formats.
_RAW_NAMES = {
    "NIKON": "Nikon NEF", "SONY": "Sony ARW", "PENTAX": "Pentax PEF", "RICOH": "Pentax PEF", "CANON": "Canon CR2",
    "SAMSUNG": "Samsung SRW", "HASSELBLAD": "Hasselblad 3FR", "PHASE ONE": "Phase One IIQ", "LEAF": "Leaf MOS",
    "MAMIYA": "Mamiya MEF", "KODAK": "Kodak DCR", "EASTMAN KODAK": "Kodak DCR", "EPSON": "Epson ERF",
    "SEIKO EPSON": "Epson ERF", "OLYMPUS": "Olympus ORF", "PANASONIC": "Panasonic RW2", "LEICA": "Leica RWL",
}  # fmt: skip
# Compressions of bytes, which can be undone without knowing what the bytes mean.
_BYTE_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}
_ROWS_AT_ONCE = 256
_Key = tuple[bytes, int, tuple[int], int, tuple[int, ...], tuple[int, ...]]
_MAX_PREVIEWS = 8  # before the image itself
# Kinds that Pillow can unpack and does not list: 12-bit grey of both byte orders, also with 0 as white.
MORE_KINDS: dict[_Key, tuple[str, str]] = {
    (order, photometric, (1,), 1, (12,), ()): ("I;16", "I;12")
    for order in (b"II", b"MM")
    for photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
}


@dataclass(frozen=True, slots=True)
class Unusual:
    """A loaded TIFF that Pillow does not know: its colours, and its transparency as a mode L image."""

    image: Image.Image
    alpha: Image.Image | None
    orientation: int


def read_tags(data: bytes) -> Tags:
    """Return the tags of the first image in the file. Raises what Pillow raises for broken files."""
    header = data[:16] if data[2:3] == b"+" or data[3:4] == b"+" else data[:8]
    tags = Tags(header)
    file = io.BytesIO(data)
    tags._tag_data_limit = len(data)  # as Pillow's own reader sets it
    file.seek(tags.next)
    tags.load(file)
    return tags


def raw_format(data: bytes, tags: Tags) -> str | None:
    """Return the name of the camera raw format, or None for a TIFF that is an image of its own.

    Their first image is often only a small preview.
    """
    maker = str(tags.get(_MAKE, "")).strip("\0 ").upper()
    if _DNG_VERSION in tags:
        return "DNG"
    if data[8:10] == b"CR":
        return "Canon CR2"
    is_raw = (
        _number(tags, _PHOTOMETRIC, 1) in _RAW_PHOTOMETRIC
        or _number(tags, _COMPRESSION, 1) in _RAW_COMPRESSION
        or (_is_preview(tags) and _SUB_IFDS in tags)
        or data[8:12] == b"IIII"
    )
    if not is_raw:
        return None
    return next((name for prefix, name in _RAW_NAMES.items() if maker.startswith(prefix)), "of an unknown camera")


def seek_full_size(image: Image.Image) -> Tags:
    """Go to the first image in a TIFF that is not a smaller version of another. Return its tags."""
    pages = cast(TiffImagePlugin.TiffImageFile, image)
    if _is_preview(pages.tag_v2):
        for page in range(1, _MAX_PREVIEWS + 1):
            try:
                pages.seek(page)
            except EOFError:
                break
            if not _is_preview(pages.tag_v2):
                return pages.tag_v2
        pages.seek(0)
    return pages.tag_v2


def open_unusual(data: bytes, tags: Tags) -> Unusual:
    """Return a TIFF of whole numbers that Pillow does not know, with its transparency.

    Samples are grey or CMYK with 8, 16 or 32 bits each. Raises ImageProcessingError with unsupported_format for any
    other kind, and OSError for damaged files.
    """
    width, height = tags[_WIDTH], tags[_HEIGHT]
    samples, bits = _number(tags, _SAMPLES, 1), _number(tags, _BITS, 1)
    photometric, sample_format = _number(tags, _PHOTOMETRIC, 0), _number(tags, _SAMPLE_FORMAT, 1)
    colours = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _CMYK: 4}.get(photometric, 0)
    extra = _numbers(tags, _EXTRA_SAMPLES)
    predictor = _number(tags, _PREDICTOR, 1)
    types = {(1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (2, 16): "i2", (2, 32): "i4", (3, 32): "f4", (3, 64): "f8"}
    kind = types.get((sample_format, bits))
    if (
        kind is None
        or not colours
        or (sample_format != 1 and samples > 1)
        or samples < colours
        or samples > colours + len(extra)
        or len(set(_numbers(tags, _BITS))) > 1
        or _number(tags, _PLANAR, 1) != 1
        or _number(tags, _FILL_ORDER, 1) != 1
        or _number(tags, _COMPRESSION, 1) not in _BYTE_COMPRESSIONS
        or predictor not in ({1, 2} if kind in {"u1", "u2", "u4"} else {1})
    ):
        raise unsupported(f"This kind of TIFF ({describe(tags)})")
    dtype = np.dtype(kind).newbyteorder("<" if tags.prefix == b"II" else ">")
    rows = _BytesOfRows(data, tags, samples * dtype.itemsize)
    has_alpha = samples > colours and extra[0] != _NO_ALPHA
    image = Image.new("CMYK" if colours == 4 else "L" if kind in {"u1", "u2"} else "F", (width, height))
    alpha = Image.new("L", (width, height)) if has_alpha else None
    for top in range(0, height, _ROWS_AT_ONCE):
        part = rows.read(top, min(top + _ROWS_AT_ONCE, height)).view(dtype).reshape(-1, width, samples)
        if predictor == 2:
            part = np.cumsum(part, axis=1, dtype=dtype.newbyteorder("="))
        if kind in {"u1", "u2"}:
            part = (part >> (8 * (dtype.itemsize - 1))).astype(np.uint8)
        levels = part[..., :colours]
        if alpha is not None:
            cover = part[..., colours]
            alpha.paste(_strip("L", cover), (0, top))
            if extra[0] == _PREMULTIPLIED:
                whole = levels.astype(np.uint16) * 255 // np.maximum(cover, 1)[..., np.newaxis]
                levels = np.minimum(whole, 255).astype(np.uint8)
        if image.mode == "L":
            levels = levels if photometric == _BLACK_IS_ZERO else 255 - levels
        elif image.mode == "F":
            levels = levels.astype(np.float32)
        image.paste(_strip(image.mode, levels), (0, top))
    if isinstance(profile := tags.get(_ICC), bytes):
        image.info["icc_profile"] = profile
    return Unusual(image, alpha, _number(tags, _ORIENTATION, 1))


def _is_preview(tags: Tags) -> bool:
    return bool(_number(tags, _SUBFILE_TYPE, 0) & 1)


def is_white_zero(tags: Tags) -> bool:
    """Return whether 0 means white."""
    return _number(tags, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO


def describe(tags: Tags) -> str:
    """Return what kind of pixels the TIFF has, such as "32-bit float RGB"."""
    bits, samples = _number(tags, _BITS, 1), _number(tags, _SAMPLES, 1)
    sample_format, photometric = _number(tags, _SAMPLE_FORMAT, 1), _number(tags, _PHOTOMETRIC, 1)
    name = _NAMES_OF_PHOTOMETRIC.get(photometric, f"photometric {photometric}")
    return f"{bits}-bit {_NAMES_OF_FORMAT.get(sample_format, '')}{name}, {samples} samples per pixel"


def _strip(mode: str, levels: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Image.Image:
    return Image.frombytes(mode, (levels.shape[1], levels.shape[0]), levels.tobytes())


class _BytesOfRows:
    """The rows of a TIFF as bytes, undone of their compression but not of their meaning.

    The file gets another directory, by which its pixels are grey bytes. So libtiff can read it.
    """

    def __init__(self, data: bytes, tags: Tags, bytes_per_pixel: int) -> None:
        entries: dict[int, Sequence[int]] = {
            name: _numbers(tags, name)
            for name in (
                _HEIGHT, _COMPRESSION, _STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES, _TILE_HEIGHT, _TILE_OFFSETS,
                _TILE_BYTES,
            )
            if name in tags
        }  # fmt: skip
        entries[_WIDTH] = [tags[_WIDTH] * bytes_per_pixel]
        if _TILE_WIDTH in tags:
            entries[_TILE_WIDTH] = [tags[_TILE_WIDTH] * bytes_per_pixel]
        entries |= {_BITS: [8], _PHOTOMETRIC: [_BLACK_IS_ZERO], _SAMPLES: [1]}
        self._image = Image.open(io.BytesIO(_with_directory(data, tags, entries)), formats=("TIFF",))
        self._image.load()

    def read(self, top: int, bottom: int) -> npt.NDArray[np.uint8]:
        """Return these rows as (rows, bytes) uint8."""
        return np.array(self._image.crop((0, top, self._image.width, bottom)))


def _with_directory(data: bytes, tags: Tags, entries: dict[int, Sequence[int]]) -> bytes:
    """Return the file with a directory of these entries. Its offsets stay right, because it goes to the end."""
    order = "<" if tags.prefix == b"II" else ">"
    is_big = 43 in data[2:4]
    # Classic: 4-byte numbers (type LONG). BigTIFF: 8-byte numbers (type LONG8).
    number, kind, size, count_format, start_of_pointer = ("Q", 16, 8, "Q", 8) if is_big else ("I", 4, 4, "H", 4)
    start = len(data) + len(data) % 2
    outside_at = start + struct.calcsize(order + count_format) + len(entries) * (4 + 2 * size) + size
    directory, outside = struct.pack(order + count_format, len(entries)), b""
    for name, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{number}", *values)
        if len(packed) > size:
            place = struct.pack(order + number, outside_at + len(outside))
            outside += packed
        else:
            place = packed
        directory += struct.pack(f"{order}HH{number}", name, kind, len(values)) + place
    directory += bytes(size)
    head = data[:start_of_pointer] + struct.pack(order + number, start)
    return head + data[len(head) :] + bytes(len(data) % 2) + directory + outside


def _numbers(tags: Tags, name: int) -> Sequence[int]:
    value = tags.get(name, ())
    values = value if isinstance(value, tuple) else (value,)
    return [int(number) for number in values]


def _number(tags: Tags, name: int, default: int) -> int:
    """Return the first number of a tag."""
    return next(iter(_numbers(tags, name)), default)
