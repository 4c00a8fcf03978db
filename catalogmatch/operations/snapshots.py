"""Consistent copies of the database of a running installation."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from core import files

FILE_NAMES = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}
COUNTED_TABLES = ("products", "product_images", "features", "matches", "auth_user")


class SnapshotError(Exception):
    """The database cannot be copied or restored. The message says why."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Contents of a copy. ``images`` are the names of the image files in the storage."""

    images: set[str]
    counts: dict[str, int]
    migrations: list[str]
    index: dict[str, Any]


def take_snapshot(folder: Path) -> Snapshot:
    """Copy the database into ``folder`` as it is at one moment, without locking it. Raises SnapshotError.

    SQLite copies in one read transaction of its write-ahead log. PostgreSQL dumps an exported repeatable-read snapshot.
    """
    path = folder / FILE_NAMES[connection.vendor]
    return _take_sqlite(path) if connection.vendor == "sqlite" else _take_postgres(path)


def restore_database(path: Path) -> None:
    """Restore a copy into the database, which must be empty. Raises SnapshotError."""
    if connection.vendor == "sqlite":
        target = Path(connection.settings_dict["NAME"])
        connection.close()
        partial = target.with_name(f"{target.name}.restoring")
        partial.unlink(missing_ok=True)
        with files.open_inside(path.parent, path.name) as source, files.replacing(partial) as copy:
            shutil.copyfileobj(source, copy)
        for leftover in (target.with_name(f"{target.name}-wal"), target.with_name(f"{target.name}-shm")):
            leftover.unlink(missing_ok=True)
        partial.replace(target)
        files.sync_folder(target.parent)
    else:
        options = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
        _run("pg_restore", *options, "--dbname", str(connection.settings_dict["NAME"]), str(path))


def read_snapshot(cursor: Any) -> Snapshot:
    """Return the contents of the database of a DB-API cursor."""

    def rows(sql: str) -> list[tuple[Any, ...]]:
        cursor.execute(sql)
        return list(cursor.fetchall())

    head = rows("SELECT id, token FROM index_changes ORDER BY id DESC LIMIT 1")
    vectors = rows("SELECT kind, model_name, COUNT(*) FROM features GROUP BY kind, model_name ORDER BY 1, 2")
    return Snapshot(
        images={name for (name,) in rows("SELECT file FROM product_images")},
        counts={
            table: rows(f"SELECT COUNT(*) FROM {table}")[0][0]  # noqa: S608  # nosec B608 # our own names
            for table in COUNTED_TABLES
        },
        migrations=[f"{app}.{name}" for app, name in rows("SELECT app, name FROM django_migrations ORDER BY id")],
        index={
            "revision": list(head[0]) if head else None,
            "vectors": [{"kind": kind, "model": model, "count": count} for kind, model, count in vectors],
        },
    )


def _take_sqlite(path: Path) -> Snapshot:
    connection.ensure_connection()
    _create_private(path)
    try:
        with closing(sqlite3.connect(path)) as copy:
            # All pages in one step. In several steps, every write by another process would restart the copy.
            connection.connection.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")  # so that the copy is a single file
            return read_snapshot(copy.cursor())
    except sqlite3.Error as error:
        raise SnapshotError(f"The database cannot be copied to {path}: {error}.") from error


def _take_postgres(path: Path) -> Snapshot:
    _create_private(path)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        [name] = cursor.fetchone()
        target = str(connection.settings_dict["NAME"])
        _run("pg_dump", "--format=custom", f"--snapshot={name}", f"--file={path}", "--dbname", target)
        return read_snapshot(cursor)


def _create_private(path: Path) -> None:
    """Create an empty file that only its owner may read. What fills it keeps the mode."""
    path.unlink(missing_ok=True)
    files.open_new(path).close()


def _run(program: str, *arguments: str) -> None:
    """Run a PostgreSQL program, with the password in the environment and not in the process list."""
    if shutil.which(program) is None:
        raise SnapshotError(f"{program} is not installed. Install PostgreSQL's client programs.")
    try:
        env = os.environ | _connection_variables(connection.settings_dict)
        subprocess.run([program, *arguments], env=env, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise SnapshotError(f"{program} failed: {error.stderr.decode(errors='replace').strip()}") from error


def _connection_variables(database: Mapping[str, Any]) -> dict[str, str]:
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD"}
    return {variable: str(database[key]) for variable, key in names.items() if database.get(key)}
