"""Synthetic images for the benchmarks, made in memory from a seed."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int) -> Image.Image:
    """Return soft blobs of colour with grain, RGB: neither flat nor noise, as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)
    return Image.fromarray(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))


def photo_as_jpeg(width: int, height: int, seed: int) -> bytes:
    """Return a JPEG file of the size and weight of a photograph."""
    buffer = io.BytesIO()
    photo(width, height, seed).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def decompression_bomb(side: int = 13_300) -> bytes:
    """Return a PNG file of some 20 kB whose side² white pixels take hundreds of megabytes to decode."""
    row = b"\x00" + b"\xff" * ((side + 7) // 8)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * side, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
