"""verify: find inconsistent data, and repair what can be repaired."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalogmatch.operations.verify import DatabaseDamagedError, Verification, verify
from core import outages
from core.escaping import escape
from core.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Check every stored row and file, and report what is inconsistent. "
        "Exit code 0: no problem remains; 3: problems remain; 1: the database could not be read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fix", action="store_true", help="repair what can be repaired")

    def handle(self, *, fix: bool, **_: Any) -> None:
        total = remaining = 0
        try:
            for problem in verify(Verification(fix, progress_bar)):
                total += problem.count
                remaining += problem.count if problem.remedy else 0
                self.stdout.write(escape(f"{problem.part:9} {problem.text} {problem.remedy or 'Repaired.'}"))
        except DatabaseDamagedError as error:
            raise CommandError(str(error)) from error
        except Exception as error:
            text = outages.explain(error)
            if text is None and isinstance(error, (ValueError, TypeError, LookupError, ArithmeticError)):
                # Values of a wrong type get past SQLite and Django, and fail wherever they are used.
                text = outages.damaged_database(f"a stored value cannot be read ({error!r})")
            if text is None:
                raise
            raise CommandError(text) from error
        if remaining:
            raise CommandError(
                f"{remaining:,} of {total:,} problems remain. Each line above says what to do.", returncode=3
            )
        self.stdout.write(f"Repaired all {total:,} problems." if total else "No problems found.")
