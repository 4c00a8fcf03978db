"""Refuse ZIP archives that would exhaust memory or disk."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from django.utils.translation import gettext as _

from core.errors import UnreadableFileError

MAX_ENTRIES = 10_000
MAX_LIST_BYTES = 8 * 2**20  # of the entries' names and sizes: 800 bytes each, and a path has about 100
MAX_UNPACKED_BYTES = 4 * 2**30
# The ratio is not checked below this size: a ZIP that fits into memory can do no harm.
MAX_RATIO = 100
RATIO_FREE_BYTES = 64 * 2**20

# What zipfile raises for damaged, encrypted and exotic archives.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip

# The record at the end of a ZIP, and where it has the number of entries and the bytes of their list.
_end_record: Any = zipfile._EndRecData  # type: ignore[attr-defined]  # as ZipFile finds it
_ENTRIES, _LIST_BYTES = 4, 5
_LOCAL_HEADER = 30  # bytes before an entry's name and content, by the ZIP specification


def open_archive(file: Path | IO[bytes]) -> zipfile.ZipFile:
    """Open a ZIP that would exhaust neither memory nor disk. Raises UnreadableFileError, and one of ZIP_ERRORS.

    The size of its list of entries is checked first, because zipfile makes an object of each entry at once.
    """
    with ExitStack() as stack:
        end = _end_record(stack.enter_context(file.open("rb")) if isinstance(file, Path) else file)
        if end is not None and (end[_ENTRIES] > MAX_ENTRIES or end[_LIST_BYTES] > MAX_LIST_BYTES):
            raise _too_many(end[_ENTRIES])
    archive = zipfile.ZipFile(file)
    try:
        _check_archive(archive)
    except BaseException:
        archive.close()
        raise
    return archive


def _check_archive(archive: zipfile.ZipFile) -> None:
    """Reject an archive that would exhaust memory or disk. Raises UnreadableFileError."""
    entries = archive.infolist()
    packed = sum(entry.compress_size for entry in entries)
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        raise _too_many(len(entries))
    if unpacked > MAX_UNPACKED_BYTES:
        text = _("The ZIP unpacks to %(size).1f GiB, more than the limit of %(limit)d GiB. Split it, or use a folder.")
        raise UnreadableFileError(text % {"size": unpacked / 2**30, "limit": MAX_UNPACKED_BYTES // 2**30})
    if unpacked > max(RATIO_FREE_BYTES, MAX_RATIO * packed):
        text = _("The ZIP unpacks to more than %d times its size, which images never do.")
        raise UnreadableFileError(text % MAX_RATIO)
    # Overlapping entries can unpack to any size. Newer Pythons reject them, 3.11 does not.
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    for entry, following in pairwise(ordered):
        if entry.header_offset + _LOCAL_HEADER + entry.compress_size > following.header_offset:
            text = _("The ZIP's entries %(first)s and %(second)s overlap.")
            raise UnreadableFileError(text % {"first": entry.filename, "second": following.filename})


def _too_many(entries: int) -> UnreadableFileError:
    text = _("The ZIP has %(entries)s entries or very long names. The limit is %(limit)s. Split it, or use a folder.")
    return UnreadableFileError(text % {"entries": f"{entries:,}", "limit": f"{MAX_ENTRIES:,}"})
