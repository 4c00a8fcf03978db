"""Delete the vectors of versions that nothing needs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from matching.learning import pruning


class Command(BaseCommand):
    help = (
        "List heads and vectors that nothing needs: not the version in use, the one that a roll back needs, a head in "
        "the shadow, the models that these are made of, or the configured encoder. --yes deletes them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--yes", action="store_true", help="delete what is listed")

    def handle(self, *, yes: bool, **_: Any) -> None:
        found = pruning.prunable()
        for one in found:
            self.stdout.write(f"{one.name}: {one.kind}, {one.images:,} vectors, {one.bytes / 1e6:,.1f} MB")
        if not found:
            self.stdout.write("There is nothing to delete.")
        elif not yes:
            self.stdout.write("Nothing was deleted. `manage.py prune_models --yes` deletes these.")
        else:
            self.stdout.write(f"Deleted {self._delete(found):,} vectors.")

    @staticmethod
    def _delete(found: list[pruning.Prunable]) -> int:
        deleted = 0
        try:
            with interruptible() as check, progress_bar(sum(one.images for one in found), "Deleting", "vectors") as bar:

                def progress(vectors: int) -> None:
                    bar.update(vectors)
                    check()

                for one in found:
                    deleted += pruning.prune(one, progress)
        except KeyboardInterrupt as interrupt:
            raise CommandError(
                "Stopped. `manage.py prune_models --yes` deletes the rest.", returncode=EXIT_INTERRUPTED
            ) from interrupt
        return deleted
