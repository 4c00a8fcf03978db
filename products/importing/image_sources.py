"""Read an import's images from a folder, or from a ZIP without extracting it."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from django.utils.translation import gettext as _

from core.archives import ZIP_ERRORS, open_archive
from core.errors import UnreadableFileError
from core.files import UnsafeFileError, open_inside, unsafe_entries
from gpu.images import read_stream, unreadable
from gpu.imaging.limits import max_bytes
from products.importing.errors import RowError
from products.importing.file_names import AmbiguousNameError, FileIndex, entry_names, is_hidden

MAX_TABLE_BYTES = 256 * 2**20


class ImageSource(Protocol):
    def names(self) -> list[str]:
        """Return the relative paths of all files but hidden ones, sorted, with slashes."""

    def read(self, name: str, folder: str = "") -> bytes:
        """Return an image's bytes. ``name`` is relative to ``folder``.

        If there is no file of exactly this path, the one that the name means is read. Raises RowError and
        ImageProcessingError.
        """

    def find_address(self, address: str) -> str | None:
        """Return the file that holds the image of an http address, by the end of its path, or None."""

    def open(self, name: str) -> IO[bytes]:
        """Open a table as a seekable file. Raises UnreadableFileError."""


class FolderSource:
    """Files in a folder that the operator named.

    A table may name images elsewhere, by absolute paths and by ``..``. The folder itself may be reached through a
    link. Links and special files in it are not followed: each is a refused row, so that the operator learns of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def names(self) -> list[str]:
        names: list[str] = []
        for folder, folders, files in os.walk(self.root):
            # A link to a folder is listed like a file, to be refused by its name.
            files += [name for name in folders if (Path(folder) / name).is_symlink()]
            folders[:] = [name for name in folders if not is_hidden(name)]
            names += [(Path(folder) / name).relative_to(self.root).as_posix() for name in files if not is_hidden(name)]
        return sorted(names)

    def find_address(self, address: str) -> str | None:
        return self._index.find_address(address)

    def read(self, name: str, folder: str = "") -> bytes:
        path = os.path.normpath(self.root / folder / name.replace("\\", "/"))
        file_name = Path(path).name
        try:
            try:
                file = self._open(path)
            except (FileNotFoundError, NotADirectoryError):
                found = _found(self._index, name, folder)
                if found is None:
                    raise
                file = self._open(os.path.normpath(self.root / found))
            with file:
                return read_stream(file, file_name)
        except UnsafeFileError as error:
            raise RowError("unsafe_path", str(error)) from error
        except OSError as error:
            raise unreadable(error, file_name) from error

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._open(os.path.normpath(self.root / name))
        except UnsafeFileError as error:
            raise UnreadableFileError(str(error)) from error
        except OSError as error:
            raise UnreadableFileError(
                _("%(file)s cannot be opened: %(reason)s.") % {"file": name, "reason": error.strerror}
            ) from error

    def _open(self, path: str) -> IO[bytes]:
        """Open a regular file. Inside the folder, no part of its path may be a link. Raises OSError."""
        root = os.path.normpath(self.root)
        if not path.startswith(f"{root.rstrip('/')}/"):
            # The table names a file elsewhere. The folders on the way are the operator's.
            return open_inside(Path(path).parent, Path(path).name)
        name = os.path.relpath(path, root)
        file = open_inside(self.root, name)
        if os.fstat(file.fileno()).st_nlink > 1 and name in self._links_out:
            file.close()
            raise self._links_out[name]
        return file

    @cached_property
    def _index(self) -> FileIndex:
        """The files below the folder. Made only once a file is not where the table says."""
        return FileIndex((name, name) for name in self.names())

    @cached_property
    def _links_out(self) -> dict[str, UnsafeFileError]:
        """The hard links in the folder to files outside, by name. Found only once a file has several names."""
        return dict(unsafe_entries(self.root))


class ZipSource:
    """Files in a ZIP. No name of an entry can lead to a path outside the ZIP."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        paths: list[tuple[str, str]] = []
        for entry in archive.infolist():
            name, *others = entry_names(entry)
            if name.endswith("/"):
                continue
            self._entries[name] = entry
            if not any(map(is_hidden, PurePosixPath(name).parts)):
                paths += [(path, name) for path in (name, *others)]
        self._index = FileIndex(paths)

    def names(self) -> list[str]:
        return sorted(name for name in self._entries if not any(map(is_hidden, PurePosixPath(name).parts)))

    def read(self, name: str, folder: str = "") -> bytes:
        return self._read(self._entry(name, folder))

    def find_address(self, address: str) -> str | None:
        return self._index.find_address(address)

    def open(self, name: str) -> IO[bytes]:
        try:
            return io.BytesIO(self._read(self._entry(name, ""), MAX_TABLE_BYTES))
        except RowError as error:
            raise UnreadableFileError(str(error)) from error

    def _entry(self, name: str, folder: str) -> zipfile.ZipInfo:
        path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
        leaves = path.startswith("../") or path == ".."
        is_absolute = path.startswith("/") or ":" in path.split("/")[0]
        entry = None if leaves or is_absolute else self._entries.get(path)
        # An absolute path names a file on the machine that wrote the table. The ZIP may have it under its last part.
        if entry is None and not leaves and (found := _found(self._index, name, folder)) is not None:
            entry = self._entries[found]
            leaves = found.startswith(("/", "../")) or ":" in found.split("/")[0]
        if leaves or (entry is None and is_absolute):
            raise RowError("unsafe_path", _("%s points outside the ZIP.") % name)
        if entry is None:
            raise RowError("file_missing", _("%s is not in the ZIP.") % name)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise RowError("unsafe_path", _("%s is a symbolic link, not an image.") % name)
        return entry

    def _read(self, entry: zipfile.ZipInfo, limit: int | None = None) -> bytes:
        """Return an entry's bytes. The limit is that of images, by their first bytes, if none is given."""
        name = entry.filename
        try:
            with self.archive.open(entry) as file:
                head = file.read(3)
                limit = limit or max_bytes(head)
                if entry.file_size > limit:
                    text = _("%(file)s has %(size).1f MiB. The limit is %(limit)d MiB.")
                    values = {"file": name, "size": entry.file_size / 2**20, "limit": limit // 2**20}
                    raise RowError("image_too_large", text % values)
                # zipfile never unpacks more than the size that was just checked.
                return head + file.read()
        except ZIP_ERRORS as error:
            text = _("%(file)s cannot be unpacked: %(reason)s.") % {"file": name, "reason": error}
            raise RowError("file_unreadable", text) from error


@contextmanager
def open_zip(path: Path, name: str = "") -> Iterator[ZipSource]:
    """Open a ZIP. Raises UnreadableFileError if it is broken or a ZIP bomb."""
    try:
        archive = open_archive(path)
    except ZIP_ERRORS as error:
        text = _("%(file)s is not a readable ZIP: %(reason)s.") % {"file": name or path.name, "reason": error}
        raise UnreadableFileError(text) from error
    with archive:
        yield ZipSource(archive)


def _found(index: FileIndex, name: str, folder: str) -> str | None:
    """Return the file that a name means, or None. Raises RowError if several fit."""
    try:
        return index.find(name, folder)
    except AmbiguousNameError as error:
        text = _("%(name)s is none of the files exactly, and fits several: %(files)s. Write one of these paths.")
        raise RowError("file_missing", text % {"name": name, "files": ", ".join(error.args[:5])}) from error
