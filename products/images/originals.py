"""Uploads as they came, where CATALOGMATCH_KEEP_ORIGINALS asks for them: beside the media, where no page serves them.

Nobody in CatalogMatch reads them: they were checked by decoding, but they are still somebody else's bytes.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from django.conf import settings


def original_path(file_name: str) -> Path:
    """Where the original of a stored picture lies: under the picture's own random name, without an extension."""
    path = PurePosixPath(file_name)
    return Path(settings.ORIGINALS_ROOT) / path.parent.name / path.stem


def keep_original(file_name: str, data: bytes) -> None:
    """Write the upload that the stored picture was made of."""
    path = original_path(file_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def delete_original(file_name: str) -> None:
    """Delete the original; that there is none is fine."""
    original_path(file_name).unlink(missing_ok=True)
