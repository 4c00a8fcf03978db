"""Copy an installation while it works, and put a copy into an empty place.

A backup is a folder: the database, the pictures' files, ``SHA256SUMS`` of them all (which ``sha256sum --check``
reads too), and ``manifest.json``, which says what should be there. The search index is made of the database, so
only what it was made of is noted.
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
from core.progress import ProgressBar
from core.schema import SchemaTooOldError, check_upgradable, known_migrations
from products.images import originals
from products.models import ProductImage

FORMAT = 1
MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"
MEDIA, ORIGINALS = "media/", "originals/"  # the folders of a backup that hold pictures


class BackupError(Exception):
    """No backup could be taken or restored. ``code`` is stable, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def take_backup(target: Path, bar: ProgressBar) -> dict[str, Any]:
    """Write a backup to ``target``, which must not exist, and answer its manifest. Raises BackupError.

    It is written beside and renamed at the end, so that a folder of that name is a whole backup. ``absent`` in
    the manifest names files that were missing already; a picture that is deleted meanwhile is none of them.
    """
    beside = target.with_name(f".{target.name}.partial")
    if target.exists():
        raise BackupError("target_exists", f"{target} exists already. Give a path that does not.")
    try:
        beside.mkdir(mode=0o700, parents=True)
    except FileExistsError as error:
        text = f"{beside} exists: another backup is under way, or was killed. If it was, delete that folder."
        raise BackupError("backup_under_way", text) from error
    try:
        manifest = _write(beside, bar)
        os.sync()  # all of it is on the disk before its name says so
        beside.rename(target)
    except (OSError, SnapshotError) as error:
        raise BackupError("backup_not_written", f"The backup could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return manifest


def _write(folder: Path, bar: ProgressBar) -> dict[str, Any]:
    """Copy the database, then the files that its pictures name, and again while files go under our hands.

    A file is deleted after its row. So one that is gone, and whose row a later copy of the database still has,
    was missing before; any other belongs to a picture that was deleted, and the later copy does not name it.
    """
    sums: dict[str, str] = {}
    gone: set[str] = set()
    while True:
        snapshot = snapshots.take_snapshot(folder)
        files = _files_of(snapshot.pictures)
        wanted = files - sums.keys() - gone
        with bar(len(wanted), "Pictures", "files") as progress:
            for name in sorted(wanted):
                progress.update()
                if digest := _copy(_live(name), folder / name):
                    sums[name] = digest
        missed = wanted - sums.keys()
        if not any(name.startswith(MEDIA) for name in missed):
            break
        gone |= missed
    for name in sums.keys() - files:
        (folder / name).unlink()
    kept = {name: sums[name] for name in sorted(files & sums.keys())}
    return _seal(folder, snapshot, kept, sorted(name for name in files - kept.keys() if name.startswith(MEDIA)))


def _files_of(pictures: Iterable[str]) -> set[str]:
    """The paths in a backup of all that belongs to these pictures: file, thumbnail and, if it was kept, original."""
    files: set[str] = set()
    with_originals = Path(settings.ORIGINALS_ROOT).is_dir()
    for name in pictures:
        files |= {MEDIA + name, MEDIA + ProductImage(file=name).thumbnail_name}
        if with_originals:
            files.add(ORIGINALS + originals.original_path(name).relative_to(settings.ORIGINALS_ROOT).as_posix())
    return files


def _live(name: str) -> Path:
    """Where a file of a backup lies in the installation."""
    root = settings.MEDIA_ROOT if name.startswith(MEDIA) else settings.ORIGINALS_ROOT
    return Path(root) / PurePosixPath(name).relative_to(PurePosixPath(name).parts[0])


def _seal(folder: Path, snapshot: Snapshot, kept: dict[str, str], absent: list[str]) -> dict[str, Any]:
    database = snapshots.FILE_NAMES[connection.vendor]
    lines = kept | {database: _digest(folder / database)}
    text = "".join(f"{digest}  {name}\n" for name, digest in lines.items())
    (folder / CHECKSUMS).write_text(text, "utf-8")
    manifest = {
        "format": FORMAT,
        "created_at": timezone.now().isoformat(),
        "database": connection.vendor,
        "counts": snapshot.counts,
        "migrations": snapshot.migrations,
        "index": snapshot.index,
        "files": len(kept),
        "absent": absent,
        "sha256sums": hashlib.sha256(text.encode()).hexdigest(),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), "utf-8")
    return manifest


def restore_backup(source: Path, bar: ProgressBar) -> dict[str, Any]:
    """Put a backup into this installation, which must be empty, and answer its manifest. Raises BackupError.

    Nothing is written before every file of the backup is what it was; the database comes last, so that an
    installation that was restored in part is not mistaken for a whole one.
    """
    _check_empty()
    manifest, names = check_backup(source, bar)
    try:
        with bar(len(names), "Pictures", "files") as progress:
            for name in names:
                progress.update()
                _copy(source / name, _live(name))
        snapshots.restore_database(source / snapshots.FILE_NAMES[connection.vendor])
        os.sync()
    except (OSError, SnapshotError) as error:
        raise BackupError("backup_not_restored", f"The backup could not be restored: {error}") from error
    with connection.cursor() as cursor:
        if snapshots.read_snapshot(cursor).counts != manifest["counts"]:
            raise BackupError("backup_not_restored", "The restored database does not hold what the manifest says.")
    return manifest


def check_backup(source: Path, bar: ProgressBar) -> tuple[dict[str, Any], list[str]]:
    """A backup's manifest and the names of its pictures' files, after all of it was read and found whole.

    Raises BackupError with the code ``backup_unreadable``, ``backup_foreign``, ``backup_newer``, ``backup_too_old``
    or ``backup_damaged``.
    """
    manifest = _read_manifest(source)
    _check_fits(manifest)
    return manifest, _check_sums(source, manifest, bar)


def _read_manifest(source: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text("utf-8"))
        if manifest["format"] != FORMAT:
            raise BackupError("backup_unreadable", f"{source} has format {manifest['format']}, not {FORMAT}.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError("backup_unreadable", f"{source} is not a backup of CatalogMatch: {error!r}") from error
    return manifest


def _check_fits(manifest: dict[str, Any]) -> None:
    if manifest["database"] != connection.vendor:
        text = f"The backup is of a {manifest['database']} database, DATABASE_URL names a {connection.vendor} one."
        raise BackupError("backup_foreign", text)
    known = {f"{app}.{name}" for app, name in known_migrations()}
    if newer := sorted(set(manifest["migrations"]) - known):
        text = f"The backup was made by a newer version ({newer[0]} is not known here). Install that version."
        raise BackupError("backup_newer", text)
    try:
        check_upgradable({(app, name) for app, _dot, name in (key.partition(".") for key in manifest["migrations"])})
    except SchemaTooOldError as error:
        raise BackupError("backup_too_old", str(error)) from error


def _check_empty() -> None:
    if connection.introspection.table_names():
        raise BackupError("place_not_empty", "The database is not empty. Restore into an empty one.")
    for folder in (Path(settings.MEDIA_ROOT), Path(settings.ORIGINALS_ROOT), Path(settings.INDEX_DIR)):
        if any(path.is_file() for path in folder.rglob("*")):
            raise BackupError("place_not_empty", f"{folder} is not empty. Restore into an empty data folder.")


def _check_sums(source: Path, manifest: dict[str, Any], bar: ProgressBar) -> list[str]:
    """The names of the media files, after every file was read and is what it was. Raises BackupError."""
    try:
        text = (source / CHECKSUMS).read_text("utf-8")
        if hashlib.sha256(text.encode()).hexdigest() != manifest["sha256sums"]:
            raise BackupError("backup_damaged", f"{source / CHECKSUMS} is not what was written.")
        lines = [line.split("  ", 1) for line in text.splitlines()]
        with bar(len(lines), "Checking", "files") as progress:
            for digest, name in lines:
                progress.update()
                # Whoever made the sums fit could name a file elsewhere, which restoring would then write.
                if ".." in PurePosixPath(name).parts or _digest(source / name) != digest:
                    raise BackupError("backup_damaged", f"{source / name} is not what was written.")
    except (OSError, UnicodeDecodeError) as error:
        raise BackupError("backup_damaged", f"The backup cannot be read: {error}") from error
    return [name for _, name in lines if name.startswith((MEDIA, ORIGINALS))]


def _copy(source: Path, target: Path) -> str | None:
    """Copy a file and answer the SHA-256 of what was copied; None where there is no such file."""
    try:
        data = source.read_bytes()  # a derivative is well below a megabyte
    except FileNotFoundError:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
