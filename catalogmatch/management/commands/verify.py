"""verify: every row has its file, every file its row, every vector its sense; --fix mends what can be mended."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from catalogmatch.operations.verify import Verification, verify
from core.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Look at everything that is stored and name what does not hold together. "
        "Exit code 0: all holds, or was mended; 3: something is wrong and stays so; 1: nothing could be looked at."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fix", action="store_true", help="mend what can be mended")

    def handle(self, *, fix: bool, **_: Any) -> None:
        found = wrong = 0
        try:
            for problem in verify(Verification(fix, progress_bar)):
                found += 1
                wrong += bool(problem.remedy)
                self.stdout.write(f"{problem.part:9} {problem.text}. {problem.remedy}".rstrip())
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {error}") from error
        if wrong:
            raise CommandError(f"{wrong:,} of {found:,} problems stay, see above.", returncode=3)
        self.stdout.write(f"{found:,} problems were mended." if found else "Everything holds.")
