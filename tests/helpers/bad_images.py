"""Some 200 bad uploads: damaged files, wrong headers, decompression bombs, and other file types."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.helpers import sample_images

SHARES = (0.02, 0.1, 0.3, 0.6, 0.9)
FLIPS = 8
# The only allowed error codes for an image, with their HTTP status.
STATUS = {
    "not_an_image": 415,
    "unsupported_format": 415,
    "image_corrupt": 422,
    "image_too_large": 413,
    "image_too_small": 422,
    "image_aspect": 422,
}

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class BadImage:
    """A bad file. A decoder may accept it as a valid image if it is ``harmless``."""

    name: str
    data: bytes
    harmless: bool = False


# Files of public corpora that some decoders refuse although every pixel is there, as browsers show them.
VISIBLE = {
    "194a4c20f1c2.png",  # only its colour profile is unreadable
    "9a83b18bfa4b.jpg",  # only half its end marker is missing
    "f28f444f89bd.tiff",  # CMYK with transparency
}


def bad_images() -> Iterator[BadImage]:
    yield from _truncated()
    yield from _damaged()
    yield from _wrong_sizes()
    yield from _bombs()
    yield from _tiffs()
    yield from _other_files()


def many_scans(scans: int = 20_000, side: int = 4_900) -> bytes:
    """Return a progressive JPEG of some hundred kB with so many scans that decoding takes seconds."""
    data = sample_images.as_file(Image.new("RGB", (side, side), "grey"), progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + data[-2:]


def _valid_files() -> dict[str, bytes]:
    """Return a valid file of each accepted format, large enough that truncation damages it."""
    return {name: sample_images.as_file(sample_images.noise(3, (96, 80)), name) for name in sample_images.FORMATS}


def _truncated() -> Iterator[BadImage]:
    for name, data in _valid_files().items():
        for share in SHARES:
            yield BadImage(f"{name} cut to {share:.0%}", sample_images.truncated(data, share))


def _damaged() -> Iterator[BadImage]:
    for name, data in _valid_files().items():
        for seed in range(FLIPS):
            random = np.random.default_rng(seed)
            broken = bytearray(data)
            for position in random.integers(0, len(data), 1 + 4 * seed):
                broken[position] ^= 1 << int(random.integers(0, 8))
            yield BadImage(f"{name} with {1 + 4 * seed} flipped bits", bytes(broken), harmless=True)
        for start in (8, len(data) // 2):
            broken = bytearray(data)
            broken[start : start + 64] = bytes(64)
            yield BadImage(f"{name} with zeros at {start}", bytes(broken), harmless=True)


def _wrong_sizes() -> Iterator[BadImage]:
    """Yield files whose header states a wrong size, at the offset of width and height in each format."""
    places = {"PNG": (16, ">II", 2**31 - 1), "GIF": (6, "<HH", 65_535), "BMP": (18, "<ii", 2**31 - 1)}
    sound = _valid_files()
    for name, (offset, layout, largest) in places.items():
        for width, height in ((largest, largest), (0, 0), (13_300, 13_300), (6_000, 6_000), (largest, 1)):
            data = bytearray(sound[name])
            struct.pack_into(layout, data, offset, width, height)
            yield BadImage(f"{name} that says {width}x{height}", bytes(data), harmless=name == "GIF")
    for name in ("AVIF", "HEIC"):
        for side in (60_000, 4_999, 2**32 - 1, 0):
            yield BadImage(f"{name} that says {side}x{side}", _with_ispe(sound[name], side), harmless=True)
    jpeg = bytearray(sound["JPEG"])
    frame = jpeg.index(b"\xff\xc0")
    for side in (65_535, 6_000, 0):
        struct.pack_into(">HH", jpeg, frame + 5, side, side)
        yield BadImage(f"JPEG that says {side}x{side}", bytes(jpeg), harmless=side == 6_000)
    for side in (16_383, 5_000, 3_000):
        yield BadImage(f"WebP that says {side}x{side}", _webp_canvas(sound["WebP"], side))


def _with_ispe(data: bytes, side: int) -> bytes:
    """Change the spatial extents of all images in an AVIF or HEIC (the ispe box of ISO/IEC 23008-12)."""
    changed = bytearray(data)
    position = changed.find(b"ispe")
    while position >= 0:
        struct.pack_into(">II", changed, position + 8, side, side)
        position = changed.find(b"ispe", position + 4)
    return bytes(changed)


def _webp_canvas(data: bytes, side: int) -> bytes:
    """Return an extended WebP: a small frame on a canvas of another size (RFC 9649)."""
    size = (side - 1).to_bytes(3, "little") * 2
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + data[12:]
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _png(*chunks: tuple[bytes, bytes], side: int = 64) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(side)) * side, 9)
    whole = ((b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in whole
    )


def _bombs() -> Iterator[BadImage]:
    yield BadImage("PNG of 13300x13300", sample_images.decompression_bomb())
    yield BadImage("PNG of 60000x60000, one row", _png(side=64).replace(struct.pack(">II", 64, 64), b"\0\0\xea`" * 2))
    packed = zlib.compress(bytes(200_000_000), 9)
    yield BadImage("PNG with a text of 200 MB", _png((b"zTXt", b"Comment\0\0" + packed)), harmless=True)
    yield BadImage(
        "PNG with an international text of 200 MB", _png((b"iTXt", b"Comment\0\1\0\0\0" + packed)), harmless=True
    )
    yield BadImage("PNG with a profile of 200 MB", _png((b"iCCP", b"profile\0\0" + packed)), harmless=True)
    yield BadImage("PNG with 20,000 texts", _png(*[(b"tEXt", b"k\0v")] * 20_000), harmless=True)
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 65_535, 65_535) + b"\0\x08\x01\x00\x00"
    for side in (65_535, 20_000):
        head = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + bytes(6)
        yield BadImage(f"GIF of {side}x{side}", head + frame + b"\x3b")
    small = b"GIF89a" + struct.pack("<HH", 64, 64) + b"\x80\0\0" + bytes(6)
    yield BadImage("GIF whose frame is larger than the GIF", small + frame + b"\x3b")
    frames = [sample_images.noise(seed, (20, 20)) for seed in range(40)]
    moving = sample_images.as_file(frames[0], "GIF", save_all=True, append_images=frames[1:] * 20)
    yield BadImage("GIF of 800 frames", moving, harmless=True)
    yield BadImage("GIF of 800 frames, cut in the first", moving[:200])
    for name in ("WebP", "AVIF"):
        many = sample_images.as_file(frames[0], name, save_all=True, append_images=frames[1:])
        yield BadImage(f"{name} of 40 frames", many, harmless=True)
    header = b"BM" + struct.pack("<IHHI", 2**31, 0, 0, 54)
    for width, height in ((100_000, 100_000), (6_000, -6_000)):
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        yield BadImage(f"BMP of {width}x{height} without pixels", header + info)
    runs = struct.pack("<IiiHHIIiiII", 40, 6_000, 6_000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    yield BadImage("BMP of one run", b"BM" + struct.pack("<IHHI", 2_000, 0, 0, 1_078) + runs + b"\xff\x01")


def _tiff(entries: list[tuple[int, int, int, int]], following: int = 0, rest: bytes = b"", count: int = -1) -> bytes:
    """Return a little-endian TIFF with entries (tag, type, count, value).

    ``following`` is the offset of the next directory.
    """
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    number = len(entries) if count < 0 else count
    return b"II*\0" + struct.pack("<IH", 8, number) + body + struct.pack("<I", following) + rest


def _tiffs() -> Iterator[BadImage]:
    grey = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    strip = [*grey, (273, 4, 1, 200), (278, 4, 1, 64), (279, 4, 1, 4096)]
    yield BadImage("TIFF whose directory follows itself, without pixels", _tiff(strip, following=8))
    yield BadImage("TIFF whose directory follows itself", _tiff(strip, 8, bytes(5_000)), harmless=True)
    yield BadImage("TIFF of 65,535 entries", _tiff(strip, count=65_535))
    yield BadImage("TIFF without entries", _tiff([]))
    yield BadImage(
        "TIFF with a billion strips", _tiff([*grey, (273, 4, 10**9, 200), (279, 4, 10**9, 300)], rest=bytes(99))
    )
    yield BadImage(
        "TIFF with a text of 4 GB", _tiff([*strip, (315, 2, 2**32 - 1, 8)], rest=bytes(5_000)), harmless=True
    )
    for tag, value in ((258, 64), (258, 0), (277, 65_535), (259, 65_000), (262, 40_000), (284, 2)):
        entries = [(t, kind, count, value if t == tag else old) for t, kind, count, old in strip]
        if tag == 284:
            entries.append((284, 3, 1, 2))
        yield BadImage(f"TIFF with tag {tag} = {value}", _tiff(entries, rest=bytes(5_000)), harmless=True)
    for compression in (2, 3, 4, 5, 7, 8, 32_773, 34_712, 34_925, 50_000, 50_001):
        entries = [(t, kind, count, compression if t == 259 else old) for t, kind, count, old in strip]
        random = np.random.default_rng(compression).bytes(5_000)
        yield BadImage(f"TIFF of noise compressed by {compression}", _tiff(entries, rest=random), harmless=True)
    for side in (2**32 - 1, 60_000, 5_500):
        entries = [(t, kind, count, side if t in {256, 257, 278} else old) for t, kind, count, old in strip]
        yield BadImage(f"TIFF that says {side}x{side}", _tiff(entries, rest=bytes(5_000)))


def _other_files() -> Iterator[BadImage]:
    yield BadImage("nothing", b"")
    yield BadImage("one byte", b"\xff")
    for name, data in _valid_files().items():
        yield BadImage(f"the first 12 bytes of {name}", data[:12])
    yield BadImage("text", b"This is not an image.\n" * 100)
    yield BadImage("HTML", b"<!doctype html><script>alert(1)</script>")
    yield BadImage("SVG", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script/></svg>')
    yield BadImage("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(%pipe%id) (w) file\n")
    yield BadImage("PDF", b"%PDF-1.7\n" + bytes(200))
    yield BadImage("Photoshop", b"8BPS\0\1" + bytes(200))
    yield BadImage("icon", sample_images.as_file(sample_images.noise(1, (32, 32)), "ICO"))
    yield BadImage("PPM", b"P6 64 64 255\n" + bytes(64 * 64 * 3))
    yield BadImage("film", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200))
    yield BadImage("GIF that is JavaScript", b"GIF89a=1;alert(document.domain);//" + bytes(64))
    yield BadImage("PNG that is HTML", PNG_SIGNATURE + b"<script>alert(1)</script>")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("image.jpg", sample_images.jpeg(1))
    yield BadImage("ZIP", archive.getvalue())
    yield BadImage("JPEG that is also a ZIP", sample_images.jpeg(1) + archive.getvalue(), harmless=True)
    yield BadImage("random bytes", np.random.default_rng(1).bytes(10_000))
    yield BadImage("JPEG's signature before random bytes", b"\xff\xd8\xff\xe0" + np.random.default_rng(2).bytes(10_000))
    for width, height in ((15, 64), (64, 15), (1, 1), (1_000, 16), (16, 1_000)):
        yield BadImage(
            f"PNG of {width}x{height}", sample_images.as_file(sample_images.noise(1, (width, height)), "PNG")
        )
