"""Read and change the database of a running installation by SQL, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any


class InstallationDatabase:
    """The PostgreSQL database of ``url``, or the SQLite file in ``folder``. Parameters in SQL are ``?``."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self._file = folder / "var" / "catalogmatch.sqlite3"
        self._url = url

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            cursor = connection.cursor()
            cursor.execute(self._in_dialect(sql), parameters)
            return list(cursor.fetchall())

    def execute(self, sql: str, *parameters: Any) -> None:
        """Change rows without the program, to imitate lost messages and crashed machines."""
        with self._connected() as connection:
            connection.cursor().execute(self._in_dialect(sql), parameters)
            connection.commit()

    def _in_dialect(self, sql: str) -> str:
        return sql.replace("?", "%s") if self._url else sql

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with closing(self._connect()) as connection:
            yield connection

    def _connect(self) -> Any:
        if not self._url:
            return sqlite3.connect(self._file, timeout=20)
        import psycopg

        return psycopg.connect(self._url)
