"""Check an uploaded image in full and re-encode it. Nothing is stored here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext as _

from gpu.imaging.errors import MAX_BYTES, ImageProcessingError
from gpu.sandbox import pool

if TYPE_CHECKING:
    from django.core.files import File

MAX_FILE_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it came: its bytes and the name it had (kept for people, never used as a path)."""

    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class CleanImage:
    """A picture that passed every check, re-encoded: upright, RGB, without metadata.

    ``original``: the uploaded bytes, where they are to be kept.
    """

    sha256: str
    width: int
    height: int
    jpeg: bytes
    thumbnail: bytes
    original_name: str
    original: bytes | None = None


def clean_image(upload: Upload) -> CleanImage:
    """Check one picture in full and re-encode it. Raises gpu.images.ImageProcessingError; stores nothing.

    ``sha256`` is of the uploaded bytes, since those are what a user can recognise as the same file.
    ``width`` and ``height`` are those of the upright original in pixels; the derivative's longer side is
    at most ``settings.DERIVATIVE_MAX_SIDE``.
    """
    derived = pool.decode_in_sandbox(upload.data, settings.DERIVATIVE_MAX_SIDE, settings.THUMBNAIL_SIDE)
    return CleanImage(
        sha256=hashlib.sha256(upload.data).hexdigest(),
        width=derived.width,
        height=derived.height,
        jpeg=derived.jpeg,
        thumbnail=derived.thumbnail,
        original_name=safe_file_name(upload.name),
        original=upload.data if settings.KEEP_ORIGINALS else None,
    )


def clean_query_jpeg(upload: Upload) -> bytes:
    """Return the derivative's JPEG of an image that is not stored. Raises ImageProcessingError.

    Its checks and pixels are those of ``clean_image``. A query needs neither a thumbnail nor a hash.
    """
    return pool.decode_in_sandbox(upload.data, settings.DERIVATIVE_MAX_SIDE).jpeg


def read_bounded(file: File[bytes]) -> bytes:
    """The bytes of an uploaded file. Raises ImageProcessingError before reading one that is over the limit."""
    if file.size is not None and file.size > MAX_BYTES:
        megabytes = MAX_BYTES // 2**20
        text = _("%(file)r is larger than %(limit)d MiB. Use a smaller one.")
        raise ImageProcessingError("image_too_large", text % {"file": file.name, "limit": megabytes})
    data: bytes = file.read()
    return data


def safe_file_name(sent: str) -> str:
    """The name alone of a file that somebody sent; of one that is too long the end, which says of what kind it is."""
    return PurePath(sent.replace("\\", "/")).name.replace("\0", "")[-MAX_FILE_NAME_LENGTH:]
