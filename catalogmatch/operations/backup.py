"""Back up a running installation, and restore a backup into an empty one.

A backup is a folder with the database, the image files, ``SHA256SUMS`` of all files (``sha256sum --check`` reads it)
and ``manifest.json`` with counts. It has no search index, which is rebuilt from the database.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from catalogmatch.operations import snapshots
from catalogmatch.operations.snapshots import Snapshot, SnapshotError
from core import files
from core.database.bounded_json import BoundedJSONDecoder
from core.database.schema import RETIRED_APPS, SchemaTooOldError, check_upgradable, known_migrations
from core.progress import ProgressBar
from products.images import originals
from products.models import ProductImage

FORMAT = 1
MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"
MEDIA, ORIGINALS = "media/", "originals/"  # the folders of a backup with image files


class BackupError(Exception):
    """A backup could not be taken or restored. ``code`` is stable. The message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def take_backup(target: Path, bar: ProgressBar) -> dict[str, Any]:
    """Write a backup to ``target``, which must not exist, and return its manifest. Raises BackupError.

    The folder gets its name at the end, so it is always complete. ``absent`` in the manifest lists files that were
    missing before. Images that are deleted during the backup are not among them.
    """
    partial = target.with_name(f".{target.name}.partial")
    if target.exists():
        raise BackupError("target_exists", f"{target} exists already. Give a path that does not exist.")
    try:
        files.make_folder(target.parent)
        partial.mkdir(files.FOLDER_MODE)
    except FileExistsError as error:
        text = f"{partial} exists. If no other backup is running, delete this folder and try again."
        raise BackupError("backup_under_way", text) from error
    try:
        manifest = _write(partial, bar)
        os.sync()  # all files are on the disk before the folder gets its name
        partial.rename(target)
        files.sync_folder(target.parent)
    except (OSError, SnapshotError) as error:
        raise BackupError("backup_not_written", f"The backup could not be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _write(folder: Path, bar: ProgressBar) -> dict[str, Any]:
    """Copy the database and then the files of its images. Repeat if files were deleted in between.

    A file is deleted after its row. So if a file is gone and a later copy of the database still has its row, it was
    missing before the backup. All other missing files belong to images deleted during the backup.
    """
    sums: dict[str, str] = {}
    missing: set[str] = set()
    while True:
        snapshot = snapshots.take_snapshot(folder)
        names = _backup_files(snapshot.images)
        to_copy = names - sums.keys() - missing
        with bar(len(to_copy), "Images", "files") as progress:
            for name in sorted(to_copy):
                progress.update()
                if digest := _copy(_live_path(name), folder / name):
                    sums[name] = digest
        not_found = to_copy - sums.keys()
        if not any(name.startswith(MEDIA) for name in not_found):
            break
        missing |= not_found
    for name in sums.keys() - names:
        (folder / name).unlink()
    copied = {name: sums[name] for name in sorted(names & sums.keys())}
    absent = sorted(name for name in names - copied.keys() if name.startswith(MEDIA))
    return _write_manifest(folder, snapshot, copied, absent)


def _backup_files(names: Iterable[str]) -> set[str]:
    """Return the paths in a backup of the image, thumbnail and, if originals are kept, original of each name."""
    paths: set[str] = set()
    with_originals = Path(settings.ORIGINALS_ROOT).is_dir()
    for name in names:
        paths |= {MEDIA + name, MEDIA + ProductImage(file=name).thumbnail_name}
        if with_originals:
            paths.add(ORIGINALS + originals.original_path(name).relative_to(settings.ORIGINALS_ROOT).as_posix())
    return paths


def _live_path(name: str) -> Path:
    """Return the path in the installation of a file in a backup."""
    root = settings.MEDIA_ROOT if name.startswith(MEDIA) else settings.ORIGINALS_ROOT
    return Path(root) / PurePosixPath(name).relative_to(PurePosixPath(name).parts[0])


def _write_manifest(folder: Path, snapshot: Snapshot, copied: dict[str, str], absent: list[str]) -> dict[str, Any]:
    database = snapshots.FILE_NAMES[connection.vendor]
    sums = copied | {database: _digest(folder, database)}
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    files.write_file(folder / CHECKSUMS, text.encode())
    manifest = {
        "format": FORMAT,
        "created_at": timezone.now().isoformat(),
        "database": connection.vendor,
        "counts": snapshot.counts,
        "migrations": snapshot.migrations,
        "index": snapshot.index,
        "files": len(copied),
        "absent": absent,
        "sha256sums": hashlib.sha256(text.encode()).hexdigest(),
    }
    files.write_file(folder / MANIFEST, json.dumps(manifest, indent=2).encode())
    return manifest


def restore_backup(source: Path, bar: ProgressBar) -> dict[str, Any]:
    """Restore a backup into this installation, which must be empty, and return its manifest. Raises BackupError.

    All files of the backup are checked before anything is written. The database is restored last, so that a failed
    restore cannot be mistaken for a complete one.
    """
    _check_empty()
    manifest, names = check_backup(source, bar)
    try:
        with bar(len(names), "Images", "files") as progress:
            for name in names:
                progress.update()
                with files.open_inside(source, name) as file:
                    _write_copy(file.read(), _live_path(name))
        os.sync()  # a database on the disk means that its images are there too
        snapshots.restore_database(source / snapshots.FILE_NAMES[connection.vendor])
        os.sync()
    except (OSError, SnapshotError) as error:
        raise BackupError("backup_not_restored", f"The backup could not be restored: {error}") from error
    with connection.cursor() as cursor:
        if snapshots.read_snapshot(cursor).counts != manifest["counts"]:
            raise BackupError("backup_not_restored", "The restored database and manifest.json count different rows.")
    return manifest


def check_backup(source: Path, bar: ProgressBar) -> tuple[dict[str, Any], list[str]]:
    """Read and check all of a backup. Return its manifest and the names of its image files.

    Raises BackupError with the code ``backup_unreadable``, ``backup_foreign``, ``backup_newer``, ``backup_too_old``
    or ``backup_damaged``.
    """
    _refuse_links(source)
    manifest = _read_manifest(source)
    _check_fits(manifest)
    return manifest, _check_sums(source, manifest, bar)


def _read_manifest(source: Path) -> dict[str, Any]:
    try:
        with files.open_inside(source, MANIFEST) as file:
            manifest: dict[str, Any] = json.load(file, cls=BoundedJSONDecoder)
        _check_shape(manifest)
        if manifest["format"] != FORMAT:
            raise BackupError("backup_unreadable", f"{source} has format {manifest['format']}, not {FORMAT}.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError("backup_unreadable", f"{source} is not a backup of CatalogMatch: {error!r}") from error
    return manifest


def _refuse_links(source: Path) -> None:
    """Refuse links, special files and hard links to files elsewhere: restoring would copy what they lead to."""
    try:
        for _name, error in files.unsafe_entries(source):
            raise BackupError("backup_damaged", f"{source} is refused: {error}")
    except OSError as error:
        raise BackupError("backup_damaged", f"The backup cannot be read: {error}") from error


def _check_shape(manifest: dict[str, Any]) -> None:
    """Raise KeyError or TypeError if a part of the manifest is missing or of another type."""
    shape = {"format": int, "created_at": str, "database": str, "counts": dict, "migrations": list, "files": int,
             "sha256sums": str}  # fmt: skip
    for key, kind in shape.items():
        if not isinstance(manifest[key], kind):
            raise TypeError(f"{key} is not a {kind.__name__}")
    if not all(isinstance(key, str) for key in manifest["migrations"]) or "products" not in manifest["counts"]:
        raise TypeError("migrations or counts are not what a backup has")


def _check_fits(manifest: dict[str, Any]) -> None:
    if manifest["database"] != connection.vendor:
        text = f"The backup is of a {manifest['database']} database, but DATABASE_URL names a {connection.vendor} one."
        raise BackupError("backup_foreign", text)
    known = {f"{app}.{name}" for app, name in known_migrations()}
    made_by = {key for key in manifest["migrations"] if key.partition(".")[0] not in RETIRED_APPS}
    if newer := sorted(made_by - known):
        text = f"The backup was made by a newer version (it has the migration {newer[0]}). Install that version."
        raise BackupError("backup_newer", text)
    try:
        check_upgradable({(app, name) for app, _dot, name in (key.partition(".") for key in manifest["migrations"])})
    except SchemaTooOldError as error:
        raise BackupError("backup_too_old", str(error)) from error


def _check_empty() -> None:
    if connection.introspection.table_names():
        raise BackupError("place_not_empty", "The database is not empty. Restore into an empty one.")
    for folder in (Path(settings.MEDIA_ROOT), Path(settings.ORIGINALS_ROOT), Path(settings.INDEX_DIR)):
        if any(path.is_symlink() or not path.is_dir() for path in folder.rglob("*")):
            raise BackupError("place_not_empty", f"{folder} is not empty. Restore into an empty data folder.")


def _check_sums(source: Path, manifest: dict[str, Any], bar: ProgressBar) -> list[str]:
    """Check every file against SHA256SUMS and return the names of the image files. Raises BackupError."""
    try:
        with files.open_inside(source, CHECKSUMS) as file:
            text = file.read().decode()
        if hashlib.sha256(text.encode()).hexdigest() != manifest["sha256sums"]:
            raise BackupError("backup_damaged", f"{source / CHECKSUMS} is damaged: it differs from manifest.json.")
        lines = [line.split("  ", 1) for line in text.splitlines()]
        with bar(len(lines), "Checking", "files") as progress:
            for digest, name in lines:
                progress.update()
                # A forged backup with matching hashes could name a file outside, which restore would write.
                if not _is_name_of_backup(name):
                    raise BackupError("backup_damaged", f"{CHECKSUMS} names {name!r}, which is no file of a backup.")
                if _digest(source, name) != digest:
                    raise BackupError("backup_damaged", f"{source / name} is damaged: it differs from SHA256SUMS.")
    except (OSError, ValueError) as error:
        raise BackupError("backup_damaged", f"The backup cannot be read: {error}") from error
    names = [name for _, name in lines]
    if snapshots.FILE_NAMES[connection.vendor] not in names or len(set(names)) < len(names):
        raise BackupError("backup_damaged", f"{CHECKSUMS} does not name the database and every file once.")
    return [name for name in names if name.startswith((MEDIA, ORIGINALS))]


def _is_name_of_backup(name: str) -> bool:
    """Whether a backup can hold a file of this name: the database, or a file below media/ or originals/."""
    if name == snapshots.FILE_NAMES[connection.vendor]:
        return True
    path = PurePosixPath(name)
    return name.startswith((MEDIA, ORIGINALS)) and ".." not in path.parts and path.as_posix() == name


def _copy(source: Path, target: Path) -> str | None:
    """Copy a file and return its SHA-256, or None if there is no such file."""
    try:
        data = source.read_bytes()  # usually below a megabyte
    except FileNotFoundError:
        return None
    return _write_copy(data, target)


def _write_copy(data: bytes, target: Path) -> str:
    """Write a file without syncing it, since one sync follows for all, and return its SHA-256."""
    files.make_folder(target.parent)
    with files.open_new(target) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def _digest(source: Path, name: str) -> str:
    with files.open_inside(source, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
