"""Keep SQLite's query-planner statistics current (ANALYZE). PostgreSQL does this by itself."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

SAMPLE_ROWS = 4_000  # of each index; fewer mislead, since 100,000 matches can share a verdict


def analyze(using: str = DEFAULT_DB_ALIAS) -> None:
    """Let SQLite sample its indexes.

    Takes some hundredths of a second for any number of rows. Without statistics SQLite assumes that ten rows share a
    value, such as the state of an image, and chooses the wrong index. Only new connections use the new statistics.
    """
    connection = connections[using]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA analysis_limit={SAMPLE_ROWS}")
            cursor.execute("ANALYZE")


def analyze_after_migrate(using: str, **_: Any) -> None:
    """Update the statistics after each migration."""
    analyze(using)
