"""Check an uploaded image in full and re-encode it. Nothing is stored here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext as _

from gpu.imaging.errors import ImageProcessingError
from gpu.imaging.limits import max_bytes
from gpu.sandbox import pool

if TYPE_CHECKING:
    from django.core.files import File

MAX_FILE_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded image. ``name`` is only shown to users and never used as a path."""

    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class CleanImage:
    """An image that passed every check, re-encoded: upright, RGB, without metadata.

    ``original``: the uploaded bytes if originals are kept, else None. ``barcodes``: the GTINs in it, or None if they
    were not looked for.
    """

    sha256: str
    width: int
    height: int
    jpeg: bytes
    thumbnail: bytes
    original_name: str
    original: bytes | None = None
    barcodes: tuple[str, ...] | None = None


def clean_image(upload: Upload) -> CleanImage:
    """Check one image in full and re-encode it. Raises ImageProcessingError.

    ``sha256`` is the hash of the uploaded bytes, by which the same file is recognised. ``width`` and ``height`` are
    those of the upright original in pixels. The derivative's longer side has at most DERIVATIVE_MAX_SIDE pixels.
    """
    derived = pool.decode_in_sandbox(
        upload.data, settings.DERIVATIVE_MAX_SIDE, settings.THUMBNAIL_SIDE, with_barcodes=True
    )
    return CleanImage(
        sha256=hashlib.sha256(upload.data).hexdigest(),
        width=derived.width,
        height=derived.height,
        jpeg=derived.jpeg,
        thumbnail=derived.thumbnail,
        original_name=safe_file_name(upload.name),
        original=upload.data if settings.KEEP_ORIGINALS else None,
        barcodes=derived.barcodes,
    )


def clean_query_jpeg(upload: Upload) -> bytes:
    """Return the JPEG of an image that is not stored. Raises ImageProcessingError.

    Its checks and pixels are those of ``clean_image``. A query needs neither a thumbnail nor a hash.
    """
    return pool.decode_in_sandbox(upload.data, settings.DERIVATIVE_MAX_SIDE).jpeg


def clean_query(upload: Upload) -> pool.DecodedImage:
    """Return ``clean_query_jpeg`` of an image with its barcodes. Raises ImageProcessingError."""
    return pool.decode_in_sandbox(upload.data, settings.DERIVATIVE_MAX_SIDE, with_barcodes=True)


def read_bounded(file: File[bytes]) -> bytes:
    """Return an uploaded file's bytes. Raises ImageProcessingError if it is too large.

    Such a file is not read into memory.
    """
    limit = max_bytes(file.read(3))
    file.seek(0)
    if file.size is not None and file.size > limit:
        megabytes = limit // 2**20
        text = _("%(file)r is larger than %(limit)d MiB. Use a smaller one.")
        raise ImageProcessingError("image_too_large", text % {"file": file.name, "limit": megabytes})
    data: bytes = file.read()
    return data


def safe_file_name(name: str) -> str:
    """Return the name without folders and NUL. A long name keeps its end."""
    return PurePath(name.replace("\\", "/")).name.replace("\0", "")[-MAX_FILE_NAME_LENGTH:]
