"""Small images made in memory: noise, drawn products, all accepted formats, and invalid files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageEnhance

# Accepted formats and their names in Pillow.
FORMATS = {
    "JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "AVIF": "AVIF",
    "HEIC": "HEIF", "GIF": "GIF", "TIFF": "TIFF", "BMP": "BMP",
}  # fmt: skip


def noise(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return an image of random pixels."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def drawing(seed: int = 0, size: tuple[int, int] = (96, 96), *, angle: float = 0.0, light: float = 1.0) -> Image.Image:
    """Draw a product from a seed: some coloured shapes on a pale background.

    The same seed with another ``angle`` (degrees) or ``light`` (1 is neutral) is another photo of the same product.
    """
    random = np.random.default_rng(seed)
    ground = tuple(int(level) for level in random.integers(200, 256, 3))
    side = 2 * max(size)
    image = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        left, top = random.uniform(0.2, 0.55, 2) * side
        width, height = random.uniform(0.1, 0.3, 2) * side
        color = tuple(int(level) for level in random.integers(0, 200, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=color)
    rotated = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=ground).resize(size, Image.Resampling.LANCZOS)
    return ImageEnhance.Brightness(rotated).enhance(light)


def as_file(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    """Encode an image in an accepted format, or any other that Pillow can write."""
    if format == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, FORMATS.get(format, format), **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, size: tuple[int, int] = (96, 96), *, angle: float = 0.0, light: float = 1.0) -> bytes:
    """Return a drawn product as a JPEG file. See ``drawing``."""
    return as_file(drawing(seed, size, angle=angle, light=light), quality=90)


def with_orientation(image: Image.Image, orientation: int, format: str = "JPEG") -> bytes:
    """Encode an image with an EXIF orientation (1 to 8)."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return as_file(image, format, exif=exif)


def truncated(data: bytes, share: float = 0.5) -> bytes:
    """Return the first part of a file, as after an aborted upload."""
    return data[: int(len(data) * share)]


def decompression_bomb(side: int = 13_300) -> bytes:
    """Return a PNG of some 20 kB whose side² white pixels need hundreds of megabytes to decode."""
    row = b"\x00" + b"\xff" * ((side + 7) // 8)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * side, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def pack(number: str, seed: int = 0, *, angle: float = 0.0) -> bytes:
    """Return the JPEG of a drawn product that carries a barcode of 8 or 13 digits, or a QR code with other text."""
    import zxingcpp

    formats = {8: zxingcpp.BarcodeFormat.EAN8, 13: zxingcpp.BarcodeFormat.EAN13}
    kind = formats[len(number)] if number.isdigit() else zxingcpp.BarcodeFormat.QRCode
    symbol = zxingcpp.create_barcode(number, kind)
    label = Image.fromarray(np.asarray(symbol.to_image(scale=3, add_quiet_zones=True))).convert("RGB")
    image = drawing(seed, (640, 480))
    image.paste(label, (40, 40))
    return as_file(image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white"), quality=90)
