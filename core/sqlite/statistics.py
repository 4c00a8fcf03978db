"""What SQLite's planner knows of the tables. It learns nothing by itself, as PostgreSQL does."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

SAMPLE_ROWS = 4_000  # rows of each index; fewer mislead about matches, where a verdict is shared by a hundred thousand


def analyze(using: str = DEFAULT_DB_ALIAS) -> None:
    """Let SQLite sample its indexes, which takes some hundredths of a second however many rows there are.

    Without it SQLite guesses that ten rows share a value, such as the state of a picture, and takes the wrong index
    first. New connections know what was found; those that are open go on as before.
    """
    connection = connections[using]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA analysis_limit={SAMPLE_ROWS}")
            cursor.execute("ANALYZE")


def analyze_after_migrate(using: str, **_: Any) -> None:
    """New indexes are looked at with the old ones."""
    analyze(using)
