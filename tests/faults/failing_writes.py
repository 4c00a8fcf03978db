"""Let every nth write to the database fail. ``sitecustomize`` loads this module.

The file that FAULT_WRITES names holds n. While it does not exist, all writes work. Each process counts its statements
that change rows and its commits. A failed write has no effect, as with a disk error.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

WHEN = Path(os.environ["FAULT_WRITES"])
_CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_written = itertools.count(1)
_commit: Callable[[BaseDatabaseWrapper], Any] = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]


def _fail_some(what: str) -> None:
    try:
        nth = int(WHEN.read_text())
    except FileNotFoundError:
        return
    if next(_written) % nth == 0:
        raise OperationalError(f"disk I/O error (a fault that a test caused, at a {what})")


def _execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
    if sql.startswith(_CHANGES):
        _fail_some(sql.split(maxsplit=1)[0])
    return execute(sql, *arguments)


def _commit_or_fail(connection: BaseDatabaseWrapper) -> Any:
    if connection.connection is not None:
        _fail_some("COMMIT")
    return _commit(connection)


def _on_connection(connection: BaseDatabaseWrapper, **_: Any) -> None:
    connection.execute_wrappers.append(_execute)


connection_created.connect(_on_connection, weak=False)
BaseDatabaseWrapper._commit = _commit_or_fail  # type: ignore[attr-defined]
