"""Django's SQLite engine with a queue for the writers of one process and fair retries between processes.

SQLite has one writer at a time. The others poll, at intervals that grow to 100 ms, so the longest waiter polls most
rarely and can wait for seconds. Here the threads of a process queue on a lock, and processes poll at a constant rate.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

from core.files import open_new

# Interval between retries while another process holds the lock: about the length of a transaction.
POLL_SECONDS = (0.002, 0.008)

# What SQLite says of a search for over 50,000 bytes and of a filter with over 1,000 conditions.
TOO_LARGE = ("LIKE or GLOB pattern too complex", "Expression tree is too large (maximum depth 1000)")

_write_lock = threading.Lock()


def _reset_write_lock() -> None:
    global _write_lock
    _write_lock = threading.Lock()


# The thread that held the lock at the fork does not exist in the child.
os.register_at_fork(after_in_child=_reset_write_lock)


class RetryingCursor(base.SQLiteCursorWrapper):
    """Retry statements for ``timeout_seconds`` while the database is locked.

    Never retries within a transaction. Raises DataError for values that SQLite cannot use, as PostgreSQL does.
    """

    timeout_seconds = 0.0

    def execute(self, query: str, params: Any = None) -> Any:
        started = time.monotonic()
        while True:
            try:
                return super().execute(query, params)
            except OverflowError as error:  # a number of over 64 bits
                raise sqlite3.DataError(str(error)) from error
            except sqlite3.OperationalError as error:
                if str(error) in TOO_LARGE:
                    raise sqlite3.DataError(str(error)) from error
                # The lower byte is the code; the upper bytes say why it is busy. An error whose message Python cannot
                # decode, because a damaged file is quoted in it, has no code.
                is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or self.connection.in_transaction or time.monotonic() - started > self.timeout_seconds:
                    raise
            time.sleep(random.uniform(*POLL_SECONDS))  # noqa: S311  # nosec B311 # no secret


def _create_private(name: str) -> None:
    """Create the file of a new database with FILE_MODE. SQLite gives its log files the same mode."""
    if name.startswith((":", "file:")):  # in memory
        return
    with contextlib.suppress(OSError), open_new(Path(name)):
        pass  # it exists, or SQLite reports why it cannot be created


class DatabaseWrapper(base.DatabaseWrapper):
    """Take the write lock before BEGIN.

    Raises OperationalError after SQLite's own timeout.
    """

    _held: threading.Lock | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        _create_private(str(conn_params["database"]))
        connection = super().get_new_connection(conn_params)
        connection.execute("PRAGMA busy_timeout = 0")  # RetryingCursor waits instead
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = self.connection.cursor(factory=RetryingCursor)
        cursor.timeout_seconds = self.settings_dict["OPTIONS"]["timeout"]
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        lock = _write_lock
        if not lock.acquire(timeout=self.settings_dict["OPTIONS"]["timeout"]):
            raise OperationalError("database is locked by another thread of this process")
        self._held = lock
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._release_write_lock()
            raise

    def _commit(self) -> Any:
        result = super()._commit()  # type: ignore[misc]  # after a failure Django rolls back
        self._release_write_lock()
        return result

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]
        finally:
            self._release_write_lock()

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]
        finally:
            self._release_write_lock()

    def _release_write_lock(self) -> None:
        lock, self._held = self._held, None
        if lock is not None:
            lock.release()
