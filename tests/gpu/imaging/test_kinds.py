"""Kinds of files that people have: deep and inverted images, camera raw, JPEGs without an end, and what is refused."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError
from tests.gpu.imaging import swatches
from tests.gpu.imaging.swatches import COLOURS, card, difference, greys, tiff
from tests.helpers.sample_images import as_file, drawing, noise

GREYS = np.asarray(card(greys()).convert("L"))
CARD = np.asarray(card())


def refusal(data: bytes) -> tuple[str, str]:
    with pytest.raises(ImageProcessingError) as caught:
        decode(data)
    return caught.value.code, caught.value.message


# --- deep and inverted -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is 0", "black is 0"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4", "f8"])
def test_grey_tiff_keeps_its_brightness_at_every_depth(dtype: str, photometric: int, order: swatches.Order) -> None:
    scale = {"u1": 1, "u2": 257, "u4": 1, "f4": 1 / 255, "f8": 1 / 255}[dtype]
    levels = (255 - GREYS if photometric == 0 else GREYS).astype("f8") * scale
    assert difference(decode(tiff(levels.astype(dtype), photometric, order)), greys()) <= 1


def test_grey_tiff_of_12_bits_keeps_its_brightness() -> None:
    levels = (255 - GREYS).astype(np.uint32) * 4095 // 255
    pairs = levels.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    height, width = levels.shape
    data = tiff(packed.astype(np.uint8).reshape(height, -1), 0)
    start = struct.unpack_from("<I", data, 4)[0]
    changed = bytearray(data)
    for number in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * number
        if (new := {256: width, 258: 12}.get(struct.unpack_from("<H", data, at)[0])) is not None:
            struct.pack_into("<I", changed, at + 8, new)
    assert difference(decode(bytes(changed)), greys()) <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_rgb_tiff_of_16_bits_keeps_its_colours(order: swatches.Order) -> None:
    assert difference(decode(tiff(CARD.astype("u2") * 257, 2, order)), COLOURS) == 0


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tiff(CARD.astype("f4") / 255, 2), "32-bit float RGB"),
        (tiff(CARD.astype("f2") / 255, 2), "16-bit float RGB"),
        (tiff(CARD.astype("u4"), 2), "32-bit RGB"),
    ],
    ids=["float", "half", "32 bits"],
)
def test_kind_of_tiff_that_cannot_be_read_is_named(data: bytes, what: str) -> None:
    code, message = refusal(data)
    assert code == "unsupported_format"
    assert what in message


# --- camera raw and other formats ---------------------------------------------------------------------

PREVIEW = {254: (4, struct.pack("<I", 1)), 330: (4, struct.pack("<I", 8))}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (tiff(CARD, 2, tags=PREVIEW), "camera raw"),
        (tiff(CARD, 2, tags=PREVIEW | {271: (2, b"NIKON CORPORATION\0")}), "Nikon NEF"),
        (tiff(CARD, 2, tags=PREVIEW | {271: (2, b"SONY\0")}), "Sony ARW"),
        (tiff(CARD, 2, tags={50706: (7, bytes([1, 4, 0, 0]))}), "DNG"),
        (tiff(GREYS.astype("u2"), 32803), "camera raw"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(8) + struct.pack("<HI", 0, 0) + bytes(99), "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99), "Canon CR3"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "Fujifilm RAF"),
        (b"IIRO\x08\0\0\0" + bytes(99), "Olympus ORF"),
        (b"IIU\0\x08\0\0\0" + bytes(99), "Panasonic RW2"),
        (as_file(card(), "TGA"), "Targa"),
        (as_file(card(), "TGA", compression="tga_rle"), "Targa"),
        (as_file(card(), "TGA")[:-26], "Targa"),
        (as_file(noise(size=(32, 32)), "ICO"), "icon"),
        (b"\0\0\2\0\1\0" + bytes(99), "cursor"),
        (as_file(card(), "JPEG2000"), "JPEG 2000"),
        (b"\xff\x0a" + bytes(99), "JPEG XL"),
        (b"%PDF-1.7\n" + bytes(99), "PDF"),
        (b"\r\n junk %PDF-1.7\n" + bytes(99), "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><!--" + b"x" * 5_000 + b"--><!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>", "SVG"),
        ("<?xml version='1.0'?>\n<svg:svg/>".encode("utf-16"), "SVG"),
        (gzip.compress(b"<svg/>", mtime=0), "SVG"),
    ],
)  # fmt: skip
def test_format_that_is_not_accepted_is_named(data: bytes, name: str) -> None:
    code, message = refusal(data)
    assert code == "unsupported_format"
    assert name in message


@pytest.mark.parametrize("data", [b"<!doctype html><svg></svg>", gzip.compress(b"sku,name", mtime=0), b"<svgx/>"])
def test_other_text_is_no_image(data: bytes) -> None:
    assert refusal(data)[0] == "not_an_image"


def test_tiff_with_smaller_versions_of_itself_is_accepted() -> None:
    data = tiff(CARD, 2, tags={254: (4, bytes(4)), 330: (4, struct.pack("<I", 8))})
    assert difference(decode(data), COLOURS) == 0


# --- JPEG --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}], ids=str
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_accepted_without_its_end_marker_but_not_without_content(mode: str, options: dict[str, Any]) -> None:
    whole = as_file(noise(1, (200, 201)).convert(mode), quality=90, **options)
    expected = np.asarray(decode(whole))
    for data in (whole[:-2], whole[:-1], whole[:-2] + bytes(600)):
        assert np.array_equal(np.asarray(decode(data)), expected)
    # The last bytes of a progressive JPEG can be finer than a level of its pixels.
    for missing in (100,) if "progressive" in options else (3, 10, 100):
        assert refusal(whole[:-missing])[0] == "image_corrupt"
    for missing in (200, len(whole) // 2):
        assert refusal(whole[:-missing] + bytes(600))[0] == "image_corrupt"


def test_progressive_jpeg_without_its_last_scan_is_refused() -> None:
    whole = as_file(noise(1, (200, 201)), quality=90, progressive=True)
    last_scan = whole.rindex(b"\xff\xda")
    last_table = whole.rindex(b"\xff\xc4")
    for end in (last_scan, last_table):
        assert refusal(whole[:end])[0] == "image_corrupt"


def test_jpeg_of_12_bits_is_named() -> None:
    data = bytearray(as_file(card()))
    data[data.index(b"\xff\xc0") + 4] = 12
    assert refusal(bytes(data)) == ("unsupported_format", refusal(bytes(data))[1])
    assert "12 bits" in refusal(bytes(data))[1]


# --- orientation --------------------------------------------------------------------------------------

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "AVIF"])
def test_orientation_of_xmp_alone_is_not_followed(kind: str) -> None:
    image = drawing(3, (64, 40))
    options: dict[str, Any] = dict(swatches.EXACT[kind])
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = texts
    elif kind == "TIFF":
        options["tiffinfo"] = {700: XMP}
    else:
        options["xmp"] = XMP
    data = as_file(image, kind, **options)
    assert XMP in data
    assert decode(data).size == (64, 40)


def test_avif_is_turned_by_its_own_property_and_not_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(as_file(drawing(3, (64, 40)), "AVIF", exif=exif)).size == (40, 64)  # Pillow writes irot


# --- large JPEGs ---------------------------------------------------------------------------------------


def test_large_jpeg_is_decoded_at_a_part_of_its_size() -> None:
    data = as_file(Image.new("L", (8_000, 6_000), 90))
    assert decode(data).size == (4_000, 3_000)


def test_tiff_is_not_taken_by_a_smaller_version_of_itself() -> None:
    large = Image.fromarray(CARD)
    data = as_file(large.resize((60, 20)), "TIFF", save_all=True, append_images=[large], tiffinfo={254: 1})
    # Pillow writes the tag for every page. The second page is the image itself.
    second = data.rindex(struct.pack("<HHI", 254, 4, 1))
    data = data[: second + 8] + bytes(4) + data[second + 12 :]
    assert decode(data).size == large.size


def test_unused_fourth_byte_of_a_bmp_is_no_transparency() -> None:
    height, width = CARD.shape[:2]
    pixels = np.dstack([CARD[::-1, :, ::-1], np.zeros((height, width), np.uint8)]).tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
    data = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(pixels), 0, 0, 14 + len(info)) + info + pixels
    assert difference(decode(data), COLOURS) == 0
