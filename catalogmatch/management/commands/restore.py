"""restore: restore a backup into an empty installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalogmatch.operations.backup import BackupError, check_backup, restore_backup
from core.escaping import escape
from core.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Restore the backup in the folder PATH. The database and the data folder must be empty. "
        "Every file of the backup is checked first. Exit code 0: restored; 1: nothing was restored."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path)
        parser.add_argument("--check", action="store_true", help="only check that the backup is complete and fits")

    def handle(self, *, path: Path, check: bool, **_: Any) -> None:
        try:
            if check:
                manifest, _names = check_backup(path.absolute(), progress_bar)
                self.stdout.write(f"{path} is complete: {manifest['counts']['products']:,} products.")
                return
            manifest = restore_backup(path.absolute(), progress_bar)
        except BackupError as error:
            raise CommandError(escape(str(error))) from error
        self.stdout.write(
            f"Restored {manifest['counts']['products']:,} products and {manifest['files']:,} files "
            f"as of {manifest['created_at']}. Run `manage.py migrate`, then `manage.py verify`."
        )
