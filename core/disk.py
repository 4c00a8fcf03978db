"""Refuse to store more before a disk is full, and measure folders."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

DISK_FULL, QUOTA_EXCEEDED = "disk_full", "quota_exceeded"
MEBIBYTE = 2**20


class NoRoomError(OSError):
    """A disk or quota has no room for what would be stored. The message is for users."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(errno.ENOSPC if code == DISK_FULL else errno.EDQUOT, message)
        self.code = code

    def __str__(self) -> str:
        return str(self.strerror)


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk of a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_free(folder: Path, coming: int = 0) -> None:
    """Raise NoRoomError if storing ``coming`` bytes would use the reserve of the folder's disk."""
    reserve = settings.DISK_RESERVE_BYTES
    if not reserve:
        return
    free = free_bytes(folder)
    if free - coming < reserve:
        text = _(
            "The disk is nearly full: %(free)s MiB are free, and %(reserve)s MiB are kept in reserve. "
            "Nothing more is stored until there is room."
        )
        raise NoRoomError(
            DISK_FULL, text % {"free": f"{free / MEBIBYTE:,.0f}", "reserve": f"{reserve / MEBIBYTE:,.0f}"}
        )


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder, or 0 if it does not exist. Takes time for many files."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # deleted since it was listed
            continue
    return total
