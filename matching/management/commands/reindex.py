"""reindex: compute features, then rebuild the search index and look up the matches of new products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from core.progress import EXIT_INTERRUPTED, interruptible
from matching import batch
from matching.index import IndexFileError
from products.queue import claims


class Command(BaseCommand):
    help = (
        "Compute features, then the search index. This process embeds the pictures; workers that are running "
        "take their share. Ctrl-C stops after the current batch, and `reindex` goes on there. "
        "Exit code 0: all done; 3: some pictures failed; 1: nothing could be done; 130: stopped by Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        for name, what in (
            ("missing", "pictures that wait or lack features of the current models (the default)"),
            ("all", "every picture"),
            ("failed", "pictures that were given up"),
        ):
            which.add_argument(f"--{name}", dest="which", action="store_const", const=name, help=what)

        which.add_argument("--index-only", action="store_true", help="none: only the search index is built anew")

    def handle(self, *, which: str | None, index_only: bool, **_: Any) -> None:
        try:
            with interruptible() as check:
                if index_only:
                    self._rebuild_index(check)
                else:
                    self._reindex(which or "missing", check)
        except IndexFileError as error:
            raise CommandError(f"The search index was not built: {error}") from error
        except DatabaseError as error:
            raise CommandError(f"Stopped: {error}. `manage.py reindex` goes on there.") from error
        except KeyboardInterrupt as interrupt:
            raise CommandError(
                "Stopped. `manage.py reindex` goes on there.", returncode=EXIT_INTERRUPTED
            ) from interrupt

    def _reindex(self, which: str, check: Callable[[], None]) -> None:
        if claims.is_paused():
            raise CommandError("The queue is paused; resume it on the page Device and model. --index-only works now.")
        claims.release_stale_claims()
        claims.requeue(which)
        embedded = batch.embed_pending_images(check, recompute=which == "all")
        self._rebuild_index(check)
        matched = batch.match_unmatched(check)
        self.stdout.write(f"Embedded {embedded.ready:,} pictures, matched {matched.matched:,} new products.")
        for image_id, reason in embedded.failed.items():
            self.stderr.write(f"picture {image_id} {reason}")
        if embedded.failed:
            raise CommandError(
                f"{len(embedded.failed)} pictures could not be embedded, see above.",
                returncode=3 if embedded.ready else 1,
            )

    def _rebuild_index(self, check: Callable[[], None]) -> None:
        built = batch.rebuild_index(check)
        for sentence in built or ["The catalogue is small enough to be searched without an index file."]:
            self.stdout.write(sentence)
