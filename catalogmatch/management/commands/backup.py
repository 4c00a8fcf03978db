"""backup: copy the database and all images of a running installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalogmatch.operations.backup import BackupError, take_backup
from core.escaping import escape
from core.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Write a backup to the folder PATH, which must not exist yet. CatalogMatch keeps running. "
        "Exit code 0: complete; 3: complete, but some image files were missing before; 1: no backup was taken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path)

    def handle(self, *, path: Path, **_: Any) -> None:
        try:
            manifest = take_backup(path.absolute(), progress_bar)
        except BackupError as error:
            raise CommandError(escape(str(error))) from error
        counts = manifest["counts"]
        self.stdout.write(f"{path}: {counts['products']:,} products, {manifest['files']:,} files.")
        if absent := manifest["absent"]:
            for name in absent:
                self.stderr.write(escape(f"missing: {name}"))
            text = f"{len(absent):,} files were missing before. `manage.py verify` says which images need them."
            raise CommandError(text, returncode=3)
