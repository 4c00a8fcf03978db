"""Read JPEGs whose end marker is missing, and name kinds of JPEG that no decoder here reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from PIL import Image

from gpu.imaging.errors import ImageProcessingError
from gpu.imaging.formats import unsupported

_END = b"\xff\xd9"
# Different data that no complete image needs. They begin with the bits 01, 10 and 11, and the decoder itself fills up
# with 00, so that not all of them mean the end of a block.
_PADDINGS = tuple(bytes((start + 73 * step) % 255 for step in range(16_000)) for start in (0x55, 0x93, 0xD6))
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_SOF, _SOS, _EOI = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}, 0xDA, 0xD9
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
_COMPARED_ROWS = 256


def unsupported_kind(data: bytes) -> ImageProcessingError | None:
    """Return the error for a JPEG of a kind that is not damaged, only not supported."""
    for marker, segment in _segments(data):
        if marker in _SOF:
            if marker in _LOSSLESS:
                return unsupported("Lossless JPEG")
            if segment and segment[0] != 8:
                return unsupported(f"JPEG with {segment[0]} bits per level")
            return None
    return None


def has_end(data: bytes) -> bool:
    """Return whether there is an end marker after the last scan."""
    return data.endswith(_END) or data.rfind(_END) > data.rfind(b"\xff\xda")


def load_without_end(data: bytes, load: Callable[[bytes], Image.Image]) -> Image.Image:
    """Return the image of a JPEG whose end marker is missing or half there, if nothing else is missing.

    ``load`` decodes a file. The decoder fills up what is missing, so the image is decoded again with
    different data after its end. Only a complete image does not depend on them. Raises OSError for an incomplete one.
    """
    for body in _bodies(data):
        if _has_all_scans(body):
            image = load(body + _END)
            if all(_are_equal(image, load(body + padding + _END)) for padding in _PADDINGS):
                return image
    raise OSError("pixels are missing")


def _bodies(data: bytes) -> list[bytes]:
    """Return the file without half an end marker, and without zeros that fill it up to a round size.

    One zero can belong to the content, so then there are two possibilities.
    """
    body = data.rstrip(b"\0")
    if len(data) - len(body) < 2:
        return [data.rstrip(b"\xff")]
    return [body + b"\0"] if body.endswith(b"\xff") else [body, body + b"\0"]


def _has_all_scans(data: bytes) -> bool:
    """Return whether each component has all its coefficients at full precision (ITU-T T.81, annex G)."""
    components: list[int] = []
    is_progressive = False
    complete: dict[int, set[int]] = {}
    for marker, segment in _segments(data):
        if marker in _SOF and len(segment) >= 6:
            is_progressive = marker in _PROGRESSIVE
            components = list(segment[6::3])
        elif marker == _SOS and len(segment) >= 4:
            count = segment[0]
            first, last, precision = segment[-3:]
            for component in segment[1 : 1 + 2 * count : 2]:
                done = complete.setdefault(component, set())
                if not is_progressive:
                    done.update(range(64))
                elif not precision & 15:
                    done.update(range(first, last + 1))
    return bool(components) and all(len(complete.get(name, ())) == 64 for name in components)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker with its content, and pass over the compressed data."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            return
        if marker in {0x01, 0xD8}:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        yield marker, data[at + 2 : at + length]
        at += max(length, 2)


def _are_equal(one: Image.Image, other: Image.Image) -> bool:
    """Compare pixels in strips, since both images are large already."""
    width, height = one.size
    boxes = [(0, top, width, min(top + _COMPARED_ROWS, height)) for top in range(0, height, _COMPARED_ROWS)]
    return one.size == other.size and all(one.crop(box).tobytes() == other.crop(box).tobytes() for box in boxes)
