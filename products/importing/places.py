"""Where an import's pictures lie: a folder on disk, or a ZIP that is read in place and never extracted."""

from __future__ import annotations

import io
import lzma
import os
import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from django.utils.translation import gettext as _

from gpu.images import MAX_BYTES, read_file
from products.importing.errors import ImportFileError, RowError

MAX_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 4 * 2**30
MAX_TABLE_BYTES = 256 * 2**20
# A ZIP that is small enough to hold in memory may be packed as tightly as it likes.
MAX_RATIO = 100
RATIO_FREE_BYTES = 64 * 2**20

# What zipfile lets through from damaged, encrypted and exotic archives.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip

_LOCAL_HEADER = 30  # bytes before an entry's name and content, by the ZIP specification

_NOT_PICTURES = {"thumbs.db", "desktop.ini", "__macosx"}


class Place(Protocol):
    def names(self) -> list[str]:
        """Every file in it, as relative paths with slashes, in a stable order; without hidden files."""

    def read(self, name: str, folder: str = "") -> bytes:
        """A picture's bytes; ``folder`` is what ``name`` is relative to. Raises RowError, ImageProcessingError."""

    def open(self, name: str) -> IO[bytes]:
        """A table, seekable. Raises ImportFileError."""


class Folder:
    """Files on the operator's own disk: absolute paths and ``..`` are as good there as any."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        found = []
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not _is_hidden(name)]
            found += [(Path(folder) / name).relative_to(self.root).as_posix() for name in files if not _is_hidden(name)]
        return sorted(found)

    def read(self, name: str, folder: str = "") -> bytes:
        return read_file(self.root / folder / name.replace("\\", "/"))

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self.root / name).open("rb")
        except OSError as error:
            raise ImportFileError(
                _("%(file)s cannot be opened: %(reason)s.") % {"file": name, "reason": error.strerror}
            ) from error


class Archive:
    """Files in a ZIP. Whatever an entry is called, no path outside of the ZIP is ever touched."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        check_archive(archive)
        self.archive = archive

    def names(self) -> list[str]:
        names = {entry.filename for entry in self.archive.infolist() if not entry.is_dir()}
        return sorted(name for name in names if not any(map(_is_hidden, PurePosixPath(name).parts)))

    def read(self, name: str, folder: str = "") -> bytes:
        return self._read(self._entry(name, folder), MAX_BYTES)

    def open(self, name: str) -> IO[bytes]:
        try:
            return io.BytesIO(self._read(self._entry(name, ""), MAX_TABLE_BYTES))
        except RowError as error:
            raise ImportFileError(str(error)) from error

    def _entry(self, name: str, folder: str) -> zipfile.ZipInfo:
        path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
        if path.startswith(("/", "../")) or path == ".." or ":" in path.split("/")[0]:
            raise RowError("unsafe_path", _("%s points outside of the ZIP.") % name)
        try:
            entry = self.archive.getinfo(path)
        except KeyError as error:
            raise RowError("file_missing", _("%s is not in the ZIP.") % name) from error
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise RowError("unsafe_path", _("%s is a symbolic link, not a picture.") % name)
        return entry

    def _read(self, entry: zipfile.ZipInfo, limit: int) -> bytes:
        name = entry.filename
        if entry.file_size > limit:
            text = _("%(file)s has %(size).1f MiB; %(limit)d may be.")
            values = {"file": name, "size": entry.file_size / 2**20, "limit": limit // 2**20}
            raise RowError("image_too_large", text % values)
        try:
            # zipfile never unpacks more than the size that was just looked at.
            return self.archive.read(entry)
        except ZIP_ERRORS as error:
            text = _("%(file)s cannot be unpacked: %(reason)s.") % {"file": name, "reason": error}
            raise RowError("file_unreadable", text) from error


@contextmanager
def open_archive(path: Path, name: str = "") -> Iterator[Archive]:
    """The ZIP at ``path``, called ``name`` or by its own name. Raises ImportFileError when it is none, or does harm."""
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        text = _("%(file)s is not a readable ZIP: %(reason)s.") % {"file": name or path.name, "reason": error}
        raise ImportFileError(text) from error
    with archive:
        yield Archive(archive)


def check_archive(archive: zipfile.ZipFile) -> None:
    """Refuse archives made to exhaust whoever unpacks them. Raises ImportFileError."""
    entries = archive.infolist()
    packed = sum(entry.compress_size for entry in entries)
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        text = _("The ZIP has %(entries)s entries; %(limit)s may be. Split it, or use a folder.")
        raise ImportFileError(text % {"entries": f"{len(entries):,}", "limit": f"{MAX_ENTRIES:,}"})
    if unpacked > MAX_UNPACKED_BYTES:
        text = _("The ZIP unpacks to %(size).1f GiB; %(limit)d may be. Split it, or use a folder.")
        raise ImportFileError(text % {"size": unpacked / 2**30, "limit": MAX_UNPACKED_BYTES // 2**30})
    if unpacked > max(RATIO_FREE_BYTES, MAX_RATIO * packed):
        text = _("The ZIP unpacks to more than %d times its size, as pictures never do.")
        raise ImportFileError(text % MAX_RATIO)
    # Entries that share their bytes unpack to any size at no cost; newer Pythons refuse them, 3.11 does not.
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    for entry, following in pairwise(ordered):
        if entry.header_offset + _LOCAL_HEADER + entry.compress_size > following.header_offset:
            text = _("The ZIP's entries %(first)s and %(second)s overlap.")
            raise ImportFileError(text % {"first": entry.filename, "second": following.filename})


def _is_hidden(name: str) -> bool:
    return (name.startswith(".") and name not in {".", ".."}) or name.lower() in _NOT_PICTURES
