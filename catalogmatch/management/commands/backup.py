"""backup: a copy of the database and all pictures, taken while work goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalogmatch.operations.backup import BackupError, take_backup
from core.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Write a backup to the folder PATH, which must not exist yet. Work goes on meanwhile. "
        "Exit code 0: whole; 3: taken, but files of some pictures were missing already; 1: no backup was taken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path)

    def handle(self, *, path: Path, **_: Any) -> None:
        try:
            manifest = take_backup(path.absolute(), progress_bar)
        except BackupError as error:
            raise CommandError(str(error)) from error
        counts = manifest["counts"]
        self.stdout.write(f"{path}: {counts['products']:,} products, {manifest['files']:,} files.")
        if absent := manifest["absent"]:
            for name in absent:
                self.stderr.write(f"missing: {name}")
            raise CommandError(f"{len(absent):,} files were missing before; `verify` says whose.", returncode=3)
