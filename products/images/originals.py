"""Keep unchanged uploads if CATALOGMATCH_KEEP_ORIGINALS is set, outside the media.

No page serves them and no code reads them, because their bytes are untrusted even after the check.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from django.conf import settings


def original_path(file_name: str) -> Path:
    """Return the original's path: the image's random name, without an extension."""
    path = PurePosixPath(file_name)
    return Path(settings.ORIGINALS_ROOT) / path.parent.name / path.stem


def delete_original(file_name: str) -> None:
    """Delete the original, if there is one."""
    original_path(file_name).unlink(missing_ok=True)
