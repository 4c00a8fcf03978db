"""Transparency: over white in every mode, and over grey where white would hide the subject."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gpu.images import decode
from gpu.imaging.colour_conversion import GREY, WHITE
from tests.gpu.imaging import swatches
from tests.gpu.imaging.swatches import COLOURS, INKS, LEVELS, card, chunk, difference, extra_samples, greys, png, tiff
from tests.helpers.sample_images import as_file

CARD, GREYS = np.asarray(card()), np.asarray(card(greys()).convert("L"))
ALPHA = np.full(GREYS.shape, 255, np.uint8)
ALPHA[:, : swatches.SIDE] = 0
REST_IN_COLOUR, REST_IN_GREY = [WHITE, *COLOURS[1:]], [WHITE, *greys()[1:]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_transparent_level_of_few_bits(bits: int) -> None:
    full = (1 << bits) - 1
    levels = [number % (full + 1) for number in range(6)]
    for key in range(1, full + 1):
        data = png(np.asarray(card(levels, "L")), bits, 0, chunk(b"tRNS", struct.pack(">H", key)))
        expected = [WHITE if level == key else (level * 255 // full,) * 3 for level in levels]
        assert difference(decode(data), expected) == 0


def test_transparent_level_of_8_and_16_bits() -> None:
    for level in LEVELS[:-1]:
        expected = [WHITE if grey == (level,) * 3 else grey for grey in greys()]
        assert difference(decode(png(GREYS, 8, 0, chunk(b"tRNS", struct.pack(">H", level)))), expected) == 0
        deep = png(GREYS.astype(np.uint16) * 257, 16, 0, chunk(b"tRNS", struct.pack(">H", level * 257)))
        assert difference(decode(deep), expected) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_colour(bits: int) -> None:
    scale = 257 if bits == 16 else 1
    key = struct.pack(">3H", *(level * scale for level in COLOURS[0]))
    data = png(CARD.astype(np.uint16) * scale, bits, 2, chunk(b"tRNS", key))
    assert difference(decode(data), REST_IN_COLOUR) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_channel_of_png(bits: int) -> None:
    scale = 257 if bits == 16 else 1
    colour = np.dstack([CARD, ALPHA]).astype(np.uint16) * scale
    grey = np.dstack([GREYS, ALPHA]).astype(np.uint16) * scale
    assert difference(decode(png(colour, bits, 6)), REST_IN_COLOUR) == 0
    assert difference(decode(png(grey, bits, 4)), REST_IN_GREY) == 0


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_entry_of_a_palette(kind: str) -> None:
    palette = card().quantize(8, dither=Image.Dither.NONE)
    data = as_file(palette, kind, transparency=palette.getpixel((5, 5)))
    assert difference(decode(data), REST_IN_COLOUR) <= 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [1, 2], ids=["premultiplied", "plain"])
def test_alpha_of_tiffs(order: swatches.Order, bits: int, kind: int) -> None:
    scale = 257 if bits == 16 else 1

    def deep(*bands: Any) -> Any:
        return (np.dstack(bands).astype(np.uint32) * scale).astype(np.uint16 if bits == 16 else np.uint8)

    tags = extra_samples(kind, order)
    inks = np.asarray(card(INKS, "CMYK")) * (ALPHA[..., np.newaxis] > 0 if kind == 1 else 1)
    cmyk = deep(inks, ALPHA)
    assert difference(decode(tiff(cmyk, 5, order, tags)), [WHITE, *swatches.plain_inks()[1:]]) <= 1
    icc = swatches.cmyk_profile()
    with_profile = decode(tiff(cmyk, 5, order, tags | {34675: (7, icc)}))
    assert difference(with_profile, [WHITE, *swatches.printed(icc)[1:]]) <= 2
    grey = deep(GREYS * (ALPHA > 0), ALPHA)
    assert difference(decode(tiff(grey, 1, order, tags)), REST_IN_GREY) <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_cmyk_with_alpha_is_read_from_compressed_tiffs(compression: str) -> None:
    # A grey TIFF that is five times as wide becomes one of five samples, since the compression is of bytes.
    pixels = np.dstack([np.asarray(card(INKS, "CMYK")), ALPHA])
    flat = Image.fromarray(pixels.reshape(pixels.shape[0], -1))
    bits = {258: (8,) * 5, 262: 5, 277: 5, 338: (2,)}
    data = as_file(flat, "TIFF", compression=compression)
    width, height = card(INKS, "CMYK").size
    assert (
        difference(decode(_retagged(data, {256: width, 257: height} | bits)), [WHITE, *swatches.plain_inks()[1:]]) <= 1
    )


def _retagged(data: bytes, changes: dict[int, object]) -> bytes:
    """Return a little-endian TIFF whose directory has other numbers. It is written again at the end."""
    start = struct.unpack_from("<I", data, 4)[0]
    entries = {}
    for number in range(struct.unpack_from("<H", data, start)[0]):
        entry = data[start + 2 + 12 * number : start + 14 + 12 * number]
        entries[struct.unpack_from("<H", entry)[0]] = entry
    end, outside = len(data) + len(data) % 2, b""
    at = end + 2 + 12 * len(entries | changes) + 4
    for name, value in changes.items():
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"<{len(values)}H", *values)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", at + len(outside))
        outside += packed if len(packed) > 4 else b""
        entries[name] = struct.pack("<HHI", name, 3, len(values)) + place
    directory = struct.pack("<H", len(entries)) + b"".join(entry for _, entry in sorted(entries.items()))
    return data[:4] + struct.pack("<I", end) + data[8:] + bytes(len(data) % 2) + directory + bytes(4) + outside


def cut_out(colour: tuple[int, int, int], mode: str = "RGBA") -> Image.Image:
    image = Image.new("RGBA", (90, 90), (255, 255, 255, 0))
    ImageDraw.Draw(image).ellipse((20, 20, 70, 70), fill=(*colour, 255))
    return image.quantize(8) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WebP", "RGBA"), ("AVIF", "RGBA"), ("HEIC", "RGBA"),
     ("TIFF", "RGBA"), ("GIF", "RGBA")],
)  # fmt: skip
def test_white_cut_out_stands_on_grey(kind: str, mode: str) -> None:
    shown = decode(as_file(cut_out((255, 255, 255), mode), kind))
    assert shown.getpixel((3, 3)) == GREY
    assert min(shown.getpixel((45, 45))) > 250  # type: ignore[arg-type]


def test_only_a_subject_that_would_vanish_stands_on_grey() -> None:
    def ground(image: Image.Image) -> object:
        return decode(as_file(image, "PNG")).getpixel((3, 3))

    assert ground(cut_out((250, 247, 240))) == GREY
    assert ground(cut_out((200, 200, 200))) == WHITE
    assert ground(cut_out((20, 160, 20))) == WHITE
    labelled = cut_out((255, 255, 255))
    ImageDraw.Draw(labelled).rectangle((35, 40, 55, 50), fill=(0, 0, 120, 255))
    assert ground(labelled) == WHITE
    assert ground(Image.new("RGBA", (90, 90), (0, 0, 0, 0))) == WHITE
    opaque = Image.new("RGBA", (90, 90), (255, 255, 255, 255))
    assert ground(opaque) == WHITE


def test_first_frame_of_a_gif_stands_on_its_screen() -> None:
    data = bytearray(as_file(Image.new("RGB", (60, 60), (200, 40, 40)).quantize(4), "GIF"))
    data[6:10] = struct.pack("<HH", 120, 60)
    shown = decode(bytes(data))
    assert (shown.size, shown.getpixel((30, 30)), shown.getpixel((90, 30))) == ((120, 60), (200, 40, 40), WHITE)
