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
            raise ImportFileError(f"{name} cannot be opened: {error.strerror}.") from error


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
            raise RowError("unsafe_path", f"{name} points outside of the ZIP.")
        try:
            entry = self.archive.getinfo(path)
        except KeyError as error:
            raise RowError("file_missing", f"{name} is not in the ZIP.") from error
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise RowError("unsafe_path", f"{name} is a symbolic link, not a picture.")
        return entry

    def _read(self, entry: zipfile.ZipInfo, limit: int) -> bytes:
        name = entry.filename
        if entry.file_size > limit:
            raise RowError("image_too_large", f"{name} has {entry.file_size / 2**20:.1f} MiB; {limit // 2**20} may be.")
        try:
            # zipfile never unpacks more than the size that was just looked at.
            return self.archive.read(entry)
        except ZIP_ERRORS as error:
            raise RowError("file_unreadable", f"{name} cannot be unpacked: {error}.") from error


@contextmanager
def open_archive(path: Path, name: str = "") -> Iterator[Archive]:
    """The ZIP at ``path``, called ``name`` or by its own name. Raises ImportFileError when it is none, or does harm."""
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise ImportFileError(f"{name or path.name} is not a readable ZIP: {error}.") from error
    with archive:
        yield Archive(archive)


def check_archive(archive: zipfile.ZipFile) -> None:
    """Refuse archives made to exhaust whoever unpacks them. Raises ImportFileError."""
    entries = archive.infolist()
    packed = sum(entry.compress_size for entry in entries)
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        raise ImportFileError(
            f"The ZIP has {len(entries):,} entries; {MAX_ENTRIES:,} may be. Split it, or use a folder."
        )
    if unpacked > MAX_UNPACKED_BYTES:
        raise ImportFileError(
            f"The ZIP unpacks to {unpacked / 2**30:.1f} GiB; {MAX_UNPACKED_BYTES // 2**30} may be. "
            "Split it, or use a folder."
        )
    if unpacked > max(RATIO_FREE_BYTES, MAX_RATIO * packed):
        raise ImportFileError(f"The ZIP unpacks to more than {MAX_RATIO} times its size, as pictures never do.")
    # Entries that share their bytes unpack to any size at no cost; newer Pythons refuse them, 3.11 does not.
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    for entry, following in pairwise(ordered):
        if entry.header_offset + _LOCAL_HEADER + entry.compress_size > following.header_offset:
            raise ImportFileError(f"The ZIP's entries {entry.filename} and {following.filename} overlap.")


def _is_hidden(name: str) -> bool:
    return (name.startswith(".") and name not in {".", ".."}) or name.lower() in _NOT_PICTURES
