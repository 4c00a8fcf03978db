"""The outer side of the decoder sandbox: start the processes and send each one image at a time."""

from __future__ import annotations

import json
import logging
import re
import signal
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from gpu.child_process import ChildDiedError, ChildPool, ChildProcess
from gpu.imaging.barcodes import GTIN_DIGITS, MAX_CODES
from gpu.imaging.errors import ImageProcessingError, too_many_bytes
from gpu.imaging.limits import max_bytes
from gpu.sandbox.server import CODES, LENGTH, REQUEST

logger = logging.getLogger(__name__)

# An image may take this many times settings.DECODER_SECONDS on the clock. The setting counts processor time.
MAX_CLOCK_FACTOR = 3
# A process is replaced after this many images, so that leaks of a decoder stay small.
IMAGES_PER_PROCESS = 500
MAX_RESPONSE_BYTES = 40 * 2**20  # derivative and thumbnail together
_GTIN = re.compile(rf"[0-9]{{{GTIN_DIGITS}}}")
# The only environment of the processes: no secrets, one heap and no idle threads.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "8388608", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image as JPEGs, upright, RGB, without metadata.

    Width and height are those of the upright original in pixels. ``barcodes``: the GTINs in it, 14 digits each.
    """

    width: int
    height: int
    jpeg: bytes
    thumbnail: bytes
    barcodes: tuple[str, ...] = ()


def decode_in_sandbox(data: bytes, side: int, thumbnail_side: int = 0, *, with_barcodes: bool = False) -> DecodedImage:
    """Decode an image in a sandbox and return its derivative and thumbnail, and its barcodes if wanted.

    Their longer sides are at most ``side`` and ``thumbnail_side`` pixels. 0 makes no thumbnail, which is then empty.
    Waits for a free sandbox. Raises ImageProcessingError, with image_corrupt for a crash or a hang and image_too_large
    for running out of memory.
    """
    if len(data) > max_bytes(data[:3]):
        raise too_many_bytes(len(data), max_bytes(data[:3]))
    try:
        with _decoders.checkout() as decoder:
            result = decoder.decode(data, side, thumbnail_side, with_barcodes)
    except ChildDiedError as error:
        logger.warning("An image of %d bytes ended its decoder (exit %s)", len(data), decoder.exit_status)
        raise decoder.image_error() from error
    if isinstance(result, ImageProcessingError):
        raise result
    return result


def close() -> None:
    """End this process's sandboxes. The next image starts new ones."""
    _decoders.close()


class _Decoder(ChildProcess):
    def __init__(self) -> None:
        arguments = (settings.DECODER_SECONDS, settings.JPEG_MAX_BYTES, settings.JPEG_MAX_PIXELS)
        super().__init__("gpu.sandbox.server", *map(str, arguments), env=_ENVIRONMENT)
        self._images_left = IMAGES_PER_PROCESS

    @property
    def is_usable(self) -> bool:
        return self._images_left > 0 and super().is_usable

    def decode(
        self, data: bytes, side: int, thumbnail_side: int, with_barcodes: bool
    ) -> DecodedImage | ImageProcessingError:
        """Return the decoded image, or why it was rejected. Raises ChildDiedError."""
        self._images_left -= 1
        with self.deadline(MAX_CLOCK_FACTOR * settings.DECODER_SECONDS):
            self.write(REQUEST.pack(len(data), side, thumbnail_side, with_barcodes))
            self.write(data)
            return self._response()

    def _response(self) -> DecodedImage | ImageProcessingError:
        (length,) = LENGTH.unpack(self.read(LENGTH.size))
        # The process may be compromised. Take nothing from it but bytes, numbers and known codes.
        try:
            response: dict[str, Any] = json.loads(bytes(self.read(min(length, 2**16))))
            if response["last"]:
                self._images_left = 0
            if "code" in response:
                code, message = str(response["code"]), str(response["message"])
                if code not in CODES:
                    raise ValueError(f"unknown code {code!r}")
                return ImageProcessingError(code, message)
            width, height, jpeg, thumbnail = (int(response[name]) for name in ("width", "height", "jpeg", "thumbnail"))
            if min(jpeg, thumbnail) < 0 or not 0 < jpeg + thumbnail <= MAX_RESPONSE_BYTES:
                raise ValueError("files of an impossible size")
            barcodes = tuple(map(str, response["barcodes"]))
            if len(barcodes) > MAX_CODES or not all(map(_GTIN.fullmatch, barcodes)):
                raise ValueError("barcodes that are no GTINs")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ChildDiedError from error
        return DecodedImage(width, height, bytes(self.read(jpeg)), bytes(self.read(thumbnail)), barcodes)

    def image_error(self) -> ImageProcessingError:
        if self.has_timed_out or self.exit_status == -signal.SIGXCPU:
            return ImageProcessingError(
                "image_corrupt", f"The image was not decoded within {settings.DECODER_SECONDS} seconds."
            )
        return super().image_error()


_decoders = ChildPool(_Decoder, lambda: settings.DECODERS)
