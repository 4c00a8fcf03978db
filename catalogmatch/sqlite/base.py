"""Django's SQLite engine, with the transactions of one process in a queue.

SQLite has one writer at a time and lets the others poll, at distances that grow to 100 ms: among many threads of a
web process, whoever has waited longest asks most rarely, and waits for seconds. Here the threads wait for each other
on a lock that is handed over at once, and only one of them competes with the other processes.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

_turn = threading.Lock()


def _new_lock() -> None:
    global _turn
    _turn = threading.Lock()


# Whoever held it when the process was forked does not exist in the child.
os.register_at_fork(after_in_child=_new_lock)


class DatabaseWrapper(base.DatabaseWrapper):
    """Waits for its turn before BEGIN, for no longer than SQLite's own timeout. Raises OperationalError after that."""

    _held: threading.Lock | None = None

    def _start_transaction_under_autocommit(self) -> None:
        turn = _turn
        if not turn.acquire(timeout=self.settings_dict["OPTIONS"]["timeout"]):
            raise OperationalError("database is locked by another thread of this process")
        self._held = turn
        try:
            super()._start_transaction_under_autocommit()
        except BaseException:
            self._end_turn()
            raise

    def _commit(self) -> Any:
        result = super()._commit()  # one that fails is still to be rolled back
        self._end_turn()
        return result

    def _rollback(self) -> Any:
        try:
            return super()._rollback()
        finally:
            self._end_turn()

    def _close(self) -> Any:
        try:
            return super()._close()
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        turn, self._held = self._held, None
        if turn is not None:
            turn.release()
