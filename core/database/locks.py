"""Locks on names, for rules that no unique constraint can express."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from django.db import connection


def lock_names(names: Iterable[str]) -> None:
    """Lock these names until the transaction ends. Other transactions that lock one of them wait.

    Look for what exists only after this, so that nothing can appear between the look and the write.
    SQLite needs no lock: a transaction holds its only write lock from the start.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("names are locked within a transaction")
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for key in sorted(map(_key, set(names))):  # everywhere in the same order, against deadlocks
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], signed=True)
