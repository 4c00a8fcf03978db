"""Django's SQLite engine, with the transactions of one process in a queue, and even chances between processes.

SQLite has one writer at a time and lets the others poll, at distances that grow to 100 ms: whoever has waited longest
asks most rarely, and waits for seconds. Here the threads of a process wait for each other on a lock that is handed
over at once, and the processes ask as often at the end of their waiting as at its beginning.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

# Between two looks at a lock that another process holds: about as long as a transaction.
POLL_SECONDS = (0.002, 0.008)

_write_lock = threading.Lock()


def _reset_write_lock() -> None:
    global _write_lock
    _write_lock = threading.Lock()


# Whoever held it when the process was forked does not exist in the child.
os.register_at_fork(after_in_child=_reset_write_lock)


class RetryingCursor(base.SQLiteCursorWrapper):
    """Tries a statement again that found the database locked, for ``patience`` seconds; never within a transaction."""

    patience = 0.0

    def execute(self, query: str, params: Any = None) -> Any:
        started = time.monotonic()
        while True:
            try:
                return super().execute(query, params)
            except sqlite3.OperationalError as error:
                # The lower byte: the upper ones say why it is busy.
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or self.connection.in_transaction or time.monotonic() - started > self.patience:
                    raise
            time.sleep(random.uniform(*POLL_SECONDS))  # noqa: S311


class DatabaseWrapper(base.DatabaseWrapper):
    """Waits for its turn before BEGIN, for no longer than SQLite's own timeout. Raises OperationalError after that."""

    _held: threading.Lock | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        connection.execute("PRAGMA busy_timeout = 0")  # PatientCursor waits instead
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = self.connection.cursor(factory=RetryingCursor)
        cursor.patience = self.settings_dict["OPTIONS"]["timeout"]
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        turn = _write_lock
        if not turn.acquire(timeout=self.settings_dict["OPTIONS"]["timeout"]):
            raise OperationalError("database is locked by another thread of this process")
        self._held = turn
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._release_write_lock()
            raise

    def _commit(self) -> Any:
        result = super()._commit()  # type: ignore[misc]  # one that fails is still to be rolled back
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
        turn, self._held = self._held, None
        if turn is not None:
            turn.release()
