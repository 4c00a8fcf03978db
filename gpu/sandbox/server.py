"""The inside of the decoder's box: a process of its own that turns untrusted bytes into clean pictures, under limits.

Started by gpu.box_pool as ``python -m gpu.box SECONDS``, the processor time that a picture may take; it imports
Pillow and numpy, no Django and no torch. On stdin come requests, on stdout go answers, one after the other, until
stdin ends:

- request: ``REQUEST`` (bytes of the file, side of the derivative, side of the thumbnail or 0), then the file;
- answer: ``LENGTH`` of a JSON object, the object, then what it announces. It has either ``code`` and ``message``,
  or ``width`` and ``height`` in pixels and ``jpeg`` and ``thumbnail`` in bytes, which follow in this order.
  ``last`` is true where the process should not be asked again, since a decoder did not give its memory back.

``READY`` comes once, before the first request is read.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import struct
import sys
from typing import BinaryIO

from PIL import Image

from gpu.images import decode_downscaled, register_decoders
from gpu.imaging.errors import ImageProcessingError, too_much_memory
from gpu.pipes import READY

REQUEST = struct.Struct("!III")
LENGTH = struct.Struct("!I")

# What decoding one picture may cost: address space above that of the idle process. The larger amount is for
# pictures of many pixels (40 million at most, by their header) whose decoder keeps several copies.
MEMORY_BYTES = 256 * 2**20
COSTLY_MEMORY_BYTES = 768 * 2**20

LEAK_BYTES = 32 * 2**20

# What an answer may say of a picture.
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
    """Answer requests until stdin ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    seconds = int(sys.argv[1])
    register_decoders()
    memory = _Memory()
    _limit(memory)
    answers.write(READY)
    answers.flush()
    while header := requests.read(REQUEST.size):
        size, side, thumbnail_side = REQUEST.unpack(header)
        _limit_time(seconds)
        try:
            answer, files = _derive(requests.read(size), side, thumbnail_side, memory)
        except MemoryError:
            answer, files = _refusal(too_much_memory()), []
        except ImageProcessingError as error:
            answer, files = _refusal(error), []
        memory.allow(MEMORY_BYTES)
        _write(answers, answer | {"last": memory.grown() > LEAK_BYTES}, files)


def _derive(data: bytes, side: int, thumbnail_side: int, memory: _Memory) -> tuple[dict[str, int | str], list[bytes]]:
    """The answer about a picture, and its derivative and thumbnail as JPEGs. Raises ImageProcessingError."""
    picture, width, height = decode_downscaled(data, side, lambda: memory.allow(COSTLY_MEMORY_BYTES))
    derivative = _fitted(picture, side)
    jpeg = _jpeg(derivative, JPEG_QUALITY)
    thumbnail = _jpeg(_fitted(derivative, thumbnail_side), THUMBNAIL_QUALITY) if thumbnail_side else b""
    return {"width": width, "height": height, "jpeg": len(jpeg), "thumbnail": len(thumbnail)}, [jpeg, thumbnail]


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """``picture``, or a copy shrunk to ``side`` pixels on its longer side where it is larger."""
    if max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    """``picture`` as JPEG with full colour resolution."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _refusal(error: ImageProcessingError) -> dict[str, int | str]:
    return {"code": error.code, "message": error.message}


def _write(answers: BinaryIO, answer: dict[str, int | str], files: list[bytes]) -> None:
    head = json.dumps(answer).encode()
    for part in (LENGTH.pack(len(head)), head, *files):
        answers.write(part)
    answers.flush()


class _Memory:
    """The size of this process's address space, where the kernel tells and limits it."""

    def __init__(self) -> None:
        # Kept open: once the limits hold, nothing can be opened.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if sys.platform == "linux" else None
        self.idle = self._size()

    def grown(self) -> int:
        """Bytes more than when it was idle."""
        return self._size() - self.idle

    def allow(self, above_idle: int) -> None:
        """Let this process have so many bytes above what it has when idle."""
        if self.idle:
            hard = self.idle + COSTLY_MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (self.idle + above_idle, hard))

    def _size(self) -> int:
        return 0 if self._statm is None else int(os.pread(self._statm, 64, 0).split()[0]) * resource.getpagesize()


def _limit(memory: _Memory) -> None:
    """Give up what decoding does not need: opening files and sockets, writing files, processes, memory without end."""
    # Libraries complain there of each bad file, as often as whoever made it likes.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stderr.fileno())
    os.close(silence)
    os.nice(5)  # requests that decode nothing go first
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(what, (0, 0))
    memory.allow(MEMORY_BYTES)


def _limit_time(seconds: int) -> None:
    """Let the kernel end this process when the next picture takes too long; the limit counts whole seconds in all."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + seconds, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
