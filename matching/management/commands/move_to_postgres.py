"""move_to_postgres: copy a SQLite catalogue into the PostgreSQL database of DATABASE_URL and verify it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.progress import interruptible, progress_bar
from matching import batch, postgres_migration
from matching.postgres_migration import CopyError


class Command(BaseCommand):
    help = (
        "Copy a SQLite catalogue into the empty, migrated PostgreSQL database of DATABASE_URL and build its index. "
        "Verify counts, hashes and the ten best results of 100 queries. The SQLite file is only read. "
        "Stop the web server and the workers first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sqlite", type=Path, nargs="?", help="the SQLite file, usually var/catalogmatch.sqlite3")
        parser.add_argument("--answers", action="store_true", help="only print sample results of this database as JSON")

    def handle(self, *, sqlite: Path | None, answers: bool, **_: Any) -> None:
        if answers:
            self.stdout.write(json.dumps(postgres_migration.sample_results()))
            return
        if sqlite is None:
            raise CommandError("Name the SQLite file.")
        try:
            with progress_bar(None, "Copying", "rows") as bar:
                tables = postgres_migration.copy_catalogue(sqlite, lambda _table, rows: bar.update(rows))
            for table in tables:
                self.stdout.write(f"{table.name}: {table.rows:,} rows, SHA-256 {table.digest[:16]}… on both sides")
            with interruptible() as check:
                batch.rebuild_index(check)
            same, total = postgres_migration.compare_results(sqlite)
        except CopyError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{same:,} of {total:,} results are the same before and after. The catalogue has moved.")
