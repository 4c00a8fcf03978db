"""Cards of known colours, in files of other colour spaces, depths and kinds, and what a viewer shows of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from gpu.imaging import profiles
from tests.helpers.sample_images import as_file

COLOURS = [(200, 40, 40), (40, 150, 60), (40, 70, 180), (230, 200, 40), (128, 128, 128), (240, 240, 240)]
LEVELS = [0, 32, 96, 160, 224, 255]
INKS = [(0, 230, 200, 20), (200, 30, 230, 20), (240, 200, 0, 10), (10, 30, 230, 0), (0, 0, 0, 128), (0, 0, 0, 0)]
Order = Literal["<", ">"]
SIDE = 40  # of one swatch
CLEAR = (255, 255, 255)

ADOBE_RGB = profiles.rgb_profile((*profiles.D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), profiles.power(2.19921875))
DISPLAY_P3 = profiles.rgb_profile((*profiles.D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), profiles.srgb)
LINEAR = profiles.rgb_profile(profiles.SRGB_PRIMARIES, profiles.power(1.0))
PROFILES = {"Adobe RGB": ADOBE_RGB, "Display P3": DISPLAY_P3, "linear": LINEAR}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# What each format needs so that colours stay what they are.
EXACT: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 97, "subsampling": 0},
    "PNG": {},
    "WebP": {"lossless": True},
    "AVIF": {"quality": 97, "subsampling": "4:4:4"},
    "HEIC": {"quality": 97, "chroma": 444},
    "TIFF": {},
}


def card(colours: Sequence[Any] = COLOURS, mode: str = "RGB") -> Image.Image:
    """Return six swatches in a row."""
    image = Image.new(mode, (SIDE * len(colours), SIDE))
    for number, colour in enumerate(colours):
        image.paste(colour, (number * SIDE, 0, (number + 1) * SIDE, SIDE))
    return image


def seen(image: Image.Image) -> list[Any]:
    """Return the colour in the middle of each swatch."""
    count = round(image.width / image.height)
    return [image.getpixel((int((number + 0.5) * image.width / count), image.height // 2)) for number in range(count)]


def difference(image: Image.Image, expected: Sequence[tuple[int, ...]]) -> int:
    """Return by how many levels the worst swatch differs from what is expected."""
    return int(np.abs(np.array(seen(image), int) - np.array(expected, int)).max())


def in_space(profile: bytes, image: Image.Image, mode: str = "RGB") -> Image.Image:
    """Return an sRGB image in the levels of a profile. A viewer that follows the profile sees the same colours."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    stored: Any = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), target, outputMode=mode)
    del stored.info["icc_profile"]
    return stored  # type: ignore[no-any-return]


def greys() -> list[tuple[int, int, int]]:
    return [(level, level, level) for level in LEVELS]


def first_clear(image: Image.Image) -> Image.Image:
    """Return the image with its first swatch transparent."""
    clear = image.convert("LA" if image.mode == "L" else "RGBA")
    clear.paste((0,) * len(clear.getbands()), (0, 0, SIDE, SIDE))
    return clear


def cmyk_profile() -> bytes:
    """Return a coarse profile of a press: the lightness and colour of the 16 overprints of four inks."""
    lab = {0: (95, 0, 0), 8: (55, -37, -50), 4: (48, 74, -3), 2: (89, -5, 93), 12: (24, 22, -46), 10: (50, -68, 33),
           6: (47, 68, 48), 14: (23, 0, 0)}  # fmt: skip
    table = bytearray()
    for overprint in range(16):
        lightness, a, b = lab[overprint & 14]
        if overprint & 1:
            lightness, a, b = lightness * 16 // 95, 0, 0
        table += bytes([round(lightness * 2.55), a + 128, b + 128])
    ramp = bytes(range(256))
    unit = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + ramp * 4 + bytes(table) + ramp * 3
    grey = bytearray(profiles.grey_profile(profiles.srgb))
    header = grey[:128]
    header[12:24] = b"prtrCMYKLab "
    start = 128 + 4 + 12
    content = header + struct.pack(">I", 1) + b"A2B0" + struct.pack(">II", start, len(lut)) + lut
    return struct.pack(">I", len(content)) + bytes(content[4:])


def printed(profile: bytes) -> list[Any]:
    """Return the colours of ``INKS`` by a profile."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    rgb = ImageCms.profileToProfile(card(INKS, "CMYK"), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return seen(rgb)  # type: ignore[arg-type]


def plain_inks() -> list[tuple[int, ...]]:
    """Return the colours of ``INKS`` without a profile."""
    return [tuple(round((255 - ink) * (255 - black) / 255) for ink in inks) for *inks, black in INKS]


# --- files that Pillow does not write ----------------------------------------------------------------


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(pixels: npt.NDArray[Any], bits: int, colour_type: int, *chunks: bytes) -> bytes:
    """Return a PNG of (h, w) or (h, w, channels) levels, with further chunks before the pixels."""
    height, width = pixels.shape[:2]
    if bits < 8:
        each = np.unpackbits(pixels.astype(np.uint8)[..., np.newaxis], axis=2)[..., 8 - bits :]
        rows = [np.packbits(row).tobytes() for row in each.reshape(height, -1)]
    else:
        rows = [row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + content + chunk(b"IEND", b"")


def tiff(
    pixels: npt.NDArray[Any], photometric: int, order: Order = "<", tags: dict[int, tuple[int, bytes]] | None = None
) -> bytes:
    """Return an uncompressed TIFF of (h, w) or (h, w, samples). ``tags``: the type and value of further tags."""
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    dtype = pixels.dtype.newbyteorder(order)
    content = pixels.astype(dtype).tobytes()
    sample_format = {"u": 1, "i": 2, "f": 3}[dtype.kind]
    numbers = {
        256: [width], 257: [height], 258: [8 * dtype.itemsize] * samples, 259: [1], 262: [photometric], 273: [8],
        277: [samples], 278: [height], 279: [len(content)], 339: [sample_format] * samples,
    }  # fmt: skip
    entries = {name: (4, struct.pack(f"{order}{len(values)}I", *values)) for name, values in numbers.items()}
    entries |= tags or {}
    sizes = {2: 1, 3: 2, 4: 4, 7: 1}
    directory, outside = struct.pack(order + "H", len(entries)), b""
    outside_at = 8 + len(content) + 2 + 12 * len(entries) + 4
    for name, (kind, value) in sorted(entries.items()):
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack(order + "I", outside_at + len(outside))
            outside += value + bytes(len(value) % 2)
        directory += struct.pack(order + "HHI", name, kind, len(value) // sizes[kind]) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8 + len(content)) + content + directory + bytes(4) + outside


def extra_samples(kind: int, order: str = "<") -> dict[int, tuple[int, bytes]]:
    """Return the tag by which the last sample is alpha: 1 premultiplied, 2 not."""
    return {338: (3, struct.pack(order + "H", kind))}


def file_of(profile: bytes, image: Image.Image, kind: str) -> bytes:
    """Return a file with this profile, in a format of Pillow."""
    return as_file(image, kind, icc_profile=profile, **EXACT[kind])
