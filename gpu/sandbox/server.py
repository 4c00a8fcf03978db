"""The inner side of the decoder sandbox: a process that turns untrusted bytes into clean JPEGs under limits.

``gpu.sandbox.pool`` starts it as ``python -m gpu.sandbox.server SECONDS BYTES PIXELS``: the processor time that an
image may take, and the largest file and size of a JPEG. It imports Pillow and numpy, but neither Django nor torch. It
reads requests from stdin and writes responses to stdout, one after the other, until stdin ends:

- Request: ``REQUEST`` (bytes of the file, side of the derivative, side of the thumbnail or 0, whether to read
  barcodes), then the file.
- Response: ``LENGTH`` of a JSON object, the object, then the files that it announces. The object has either ``code``
  and ``message``, or ``width`` and ``height`` in pixels, ``jpeg`` and ``thumbnail`` in bytes, and the GTINs in
  ``barcodes``. The files follow in this order. ``last`` is true if the process must be replaced, because a decoder did
  not free its memory.

It writes ``READY`` once, before it reads the first request.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import struct
import sys
from typing import Any, BinaryIO

from PIL import Image

from gpu.images import decode_downscaled, register_decoders
from gpu.imaging.barcodes import gtins, read_barcodes
from gpu.imaging.errors import ImageProcessingError, too_much_memory
from gpu.imaging.limits import JPEG
from gpu.pipes import READY

REQUEST = struct.Struct("!III?")
LENGTH = struct.Struct("!I")

# Address space above that of the idle process that decoding one image may take. The larger amount is for images of
# many pixels whose decoder holds several copies.
MEMORY_BYTES = 256 * 2**20
COSTLY_MEMORY_BYTES = 768 * 2**20

MAX_LEAK_BYTES = 32 * 2**20

# The codes that a response may have.
CODES = {
    "not_an_image",
    "unsupported_format",
    "image_corrupt",
    "image_too_large",
    "image_too_small",
    "image_aspect",
}

JPEG_QUALITY = 92
THUMBNAIL_QUALITY = 85


def main() -> None:
    """Serve requests until stdin ends."""
    requests, responses = sys.stdin.buffer, sys.stdout.buffer
    seconds, max_bytes, max_pixels = map(int, sys.argv[1:])
    JPEG.configure(max_bytes, max_pixels)
    register_decoders()
    memory = _Memory()
    _limit(memory)
    responses.write(READY)
    responses.flush()
    while header := requests.read(REQUEST.size):
        size, side, thumbnail_side, with_barcodes = REQUEST.unpack(header)
        _limit_time(seconds)
        try:
            response, files = _decode(requests.read(size), side, thumbnail_side, with_barcodes, memory)
        except MemoryError:
            response, files = _rejection(too_much_memory()), []
        except ImageProcessingError as error:
            response, files = _rejection(error), []
        memory.allow(MEMORY_BYTES)
        _write(responses, response | {"last": memory.growth() > MAX_LEAK_BYTES}, files)


def _decode(
    data: bytes, side: int, thumbnail_side: int, with_barcodes: bool, memory: _Memory
) -> tuple[dict[str, Any], list[bytes]]:
    """Return the response, and derivative and thumbnail as JPEGs.

    Raises ImageProcessingError.
    """
    image, width, height = decode_downscaled(data, side, lambda: memory.allow(COSTLY_MEMORY_BYTES))
    derivative = _shrink(image, side)
    jpeg = _jpeg(derivative, JPEG_QUALITY)
    thumbnail = _jpeg(_shrink(derivative, thumbnail_side), THUMBNAIL_QUALITY) if thumbnail_side else b""
    response: dict[str, Any] = {"width": width, "height": height, "jpeg": len(jpeg), "thumbnail": len(thumbnail)}
    response["barcodes"] = _barcodes(derivative) if with_barcodes else []
    return response, [jpeg, thumbnail]


def _barcodes(image: Image.Image) -> list[str]:
    """Return the GTINs in an image. An image that the reader fails on is as good without them."""
    try:
        return gtins(read_barcodes(image))
    except (MemoryError, RuntimeError, ValueError):
        return []


def _shrink(image: Image.Image, side: int) -> Image.Image:
    """Return the image, scaled down if its longer side exceeds ``side`` pixels."""
    if max(image.size) <= side:
        return image
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    """Return the image as a JPEG with full colour resolution."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _rejection(error: ImageProcessingError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message}


def _write(responses: BinaryIO, response: dict[str, Any], files: list[bytes]) -> None:
    head = json.dumps(response).encode()
    for part in (LENGTH.pack(len(head)), head, *files):
        responses.write(part)
    responses.flush()


class _Memory:
    """The address space of this process and its limit. Works on Linux only."""

    def __init__(self) -> None:
        # It stays open, because the limits forbid opening files.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if sys.platform == "linux" else None
        self.idle = self._size()

    def growth(self) -> int:
        """Return the bytes above the idle size."""
        return self._size() - self.idle

    def allow(self, above_idle: int) -> None:
        """Limit this process to this many bytes above its idle size."""
        if self.idle:
            hard = self.idle + COSTLY_MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (self.idle + above_idle, hard))

    def _size(self) -> int:
        return 0 if self._statm is None else int(os.pread(self._statm, 64, 0).split()[0]) * resource.getpagesize()


def _limit(memory: _Memory) -> None:
    """Give up what decoding does not need.

    These are files, sockets, processes, core dumps and unlimited memory.
    """
    # A bad file could make the libraries write endless warnings to stderr.
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stderr.fileno())
    os.close(devnull)
    os.nice(5)  # requests that decode nothing go first
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(what, (0, 0))
    memory.allow(MEMORY_BYTES)


def _limit_time(seconds: int) -> None:
    """Let the kernel end this process if the next image takes too long.

    The limit counts all seconds of the process.
    """
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + seconds, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
