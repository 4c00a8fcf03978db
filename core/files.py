"""Write files that survive a power cut and that only their owner reads, and read files without following links.

Not for files that a user asks for by path, such as a report: those follow the umask.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO

from django.core.files import locks

FILE_MODE, FOLDER_MODE = 0o600, 0o700

# Some network file systems cannot sync a folder. Nothing more can be done there.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}

# Folders whose own entry this process has synced. They are a few hundred at most, see products/images/storage.py.
_synced_folders: set[Path] = set()


class UnsafeFileError(OSError):
    """A link or a special file stands where a regular file should be. The message says so to the user."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ELOOP, message)

    def __str__(self) -> str:
        return str(self.strerror)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents with FOLDER_MODE, whatever the umask, and sync their entries."""
    if folder in _synced_folders and folder.is_dir():
        return
    for path in reversed([folder, *folder.parents]):
        try:
            path.mkdir(FOLDER_MODE)
        except FileExistsError:
            if path in _synced_folders:
                continue
        except OSError:
            # A parent such as / may be read-only. It only has to exist.
            if not path.is_dir():
                raise
        else:
            path.chmod(FOLDER_MODE)
        # Another process may have created it a moment ago without having synced it yet.
        sync_folder(path.parent)
        _synced_folders.add(path)


def sync_folder(folder: Path) -> None:
    """Wait until the entries of a folder are on the disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a parent that may be passed through and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk, and give it FILE_MODE."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(descriptor, FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_new(path: Path) -> IO[bytes]:
    """Create a file with FILE_MODE, whatever the umask, and open it for writing. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
        return os.fdopen(descriptor, "wb")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file during the block. Yield False if another process of this machine has locked it.

    The lock ends with the process.
    """
    with open_to_append(path) as file:
        yield locks.lock(file, locks.LOCK_EX | locks.LOCK_NB)


def open_to_append(path: Path) -> IO[str]:
    """Open a text file to append to it. A new one gets FILE_MODE."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE), "a", encoding="utf-8")


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files so that each is complete on the disk under its name once this returns, replacing older ones.

    All are written under temporary names, synced in one pass, renamed, and each folder is synced once. If it fails,
    no temporary file remains, but some files may have got their name.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, data in contents.items():
            make_folder(path.parent)
            parts[path] = _part(path)
            with open_new(parts[path]) as file:
                file.write(data)
        _sync_all(parts.values())
        for path in list(parts):
            parts[path].replace(path)
            del parts[path]
        for folder in {path.parent for path in contents}:
            sync_folder(folder)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write one file like ``write_files``."""
    write_files({path: data})


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write it in parts; it gets its name, complete and on the disk, when the block ends well."""
    make_folder(path.parent)
    part = _part(path)
    try:
        with open_new(part) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def open_inside(root: Path, name: str) -> BufferedReader:
    """Open a regular file below ``root`` for reading. ``root`` may be reached through a link, ``name`` may not.

    Raises UnsafeFileError for a link, a special file or a name that leaves ``root``, and OSError.
    """
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise UnsafeFileError(f"{name} points outside of {root}.")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            _require(name, os.stat(part, dir_fd=folder, follow_symlinks=False), stat.S_ISDIR)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Looked at first, because opening a device can already do something.
        _require(name, os.stat(parts[-1], dir_fd=folder, follow_symlinks=False), stat.S_ISREG)
        descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _require(name, os.fstat(descriptor), stat.S_ISREG)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def unsafe_entries(root: Path) -> Iterator[tuple[str, UnsafeFileError]]:
    """Yield the name and an error for each symbolic link, special file and hard link to the outside below ``root``.

    A hard link leads outside if the file has more names than ``root`` holds of it.
    """
    linked: dict[tuple[int, int], tuple[int, list[str]]] = {}
    for folder, folders, files in os.walk(root):
        for entry in (*folders, *files):
            path = Path(folder) / entry
            found = path.lstat()
            name = path.relative_to(root).as_posix()
            if stat.S_ISREG(found.st_mode):
                if found.st_nlink > 1:
                    linked.setdefault((found.st_dev, found.st_ino), (found.st_nlink, []))[1].append(name)
            elif not stat.S_ISDIR(found.st_mode):
                yield name, UnsafeFileError(_describe(name, found.st_mode))
    for count, names in linked.values():
        for name in names if count > len(names) else []:
            text = f"{name} is a hard link to a file outside of the folder. Copy the folder with `cp -r` first."
            yield name, UnsafeFileError(text)


def _require(name: str, found: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(found.st_mode):
        if stat.S_ISREG(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        raise UnsafeFileError(_describe(name, found.st_mode))


def _describe(name: str, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return f"{name} is a symbolic link. Links are not followed; put the file itself there."
    return f"{name} is a folder." if stat.S_ISDIR(mode) else f"{name} is a device, pipe or socket, not a file."


def _part(path: Path) -> Path:
    """Return a free temporary name beside a file."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _sync_all(paths: Iterable[Path]) -> None:
    descriptors: list[int] = []
    try:
        descriptors.extend(os.open(path, os.O_RDONLY) for path in paths)
        if hasattr(os, "posix_fadvise"):
            # Starts writing all of them, so that one commit of the file system's journal can serve all fsyncs.
            for descriptor in descriptors:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for descriptor in descriptors:
            os.fsync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
