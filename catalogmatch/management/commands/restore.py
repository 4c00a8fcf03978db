"""restore: put a backup into an empty installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalogmatch.backup import BackupError, restore
from products.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Put the backup in the folder PATH into this installation, whose database and data folder must be empty. "
        "Every file of the backup is checked first. Exit code 0: restored; 1: not."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path)

    def handle(self, *, path: Path, **_: Any) -> None:
        try:
            manifest = restore(path.absolute(), progress_bar)
        except BackupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Restored {manifest['counts']['products']:,} products and {manifest['files']:,} files "
            f"as of {manifest['created_at']}. Run `manage.py migrate`, then `manage.py verify`."
        )
