"""How large a file and an image may be. JPEGs may be larger, because they can be decoded at a part of their size."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 40_000_000
MIN_SIDE = 16
MAX_ASPECT = 50

_JPEG = b"\xff\xd8\xff"


@dataclass(slots=True)
class JpegLimits:
    """The limits of JPEGs, which are settings. Each process sets them once when it starts."""

    max_bytes: int = 60 * 2**20
    max_pixels: int = 120_000_000

    def configure(self, max_bytes: int, max_pixels: int) -> None:
        """Set both limits. They are at least those of other formats."""
        self.max_bytes, self.max_pixels = max(max_bytes, MAX_BYTES), max(max_pixels, MAX_PIXELS)


JPEG = JpegLimits()


def max_bytes(head: bytes) -> int:
    """Return the largest size of a file that begins with these bytes."""
    return JPEG.max_bytes if head.startswith(_JPEG) else MAX_BYTES
