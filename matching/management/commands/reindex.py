"""reindex: compute features, then rebuild the search index and look up the matches of new products."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from matching import bulk
from products import embedding
from products.progress import INTERRUPTED, stoppable


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

    def handle(self, *, which: str | None, **_: Any) -> None:
        try:
            with stoppable() as check:
                embedding.release_stale_claims()
                embedding.requeue(which or "missing")
                embedded = bulk.embed_waiting(check, afresh=which == "all")
                matched = bulk.match_unmatched(check)
        except KeyboardInterrupt as interrupt:
            raise CommandError("Stopped. `manage.py reindex` goes on there.", returncode=INTERRUPTED) from interrupt
        self.stdout.write(f"Embedded {embedded.ready:,} pictures, matched {matched.matched:,} new products.")
        for image_id, reason in embedded.failed.items():
            self.stderr.write(f"picture {image_id} {reason}")
        if embedded.failed:
            raise CommandError(
                f"{len(embedded.failed)} pictures could not be embedded, see above.",
                returncode=3 if embedded.ready else 1,
            )
