"""Compute features, rebuild the search index and match new products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from core import files
from core.escaping import escape
from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from products.images import barcodes, remaking
from products.queue import bulk, claims
from products.queue.bulk import FollowUpError


class Command(BaseCommand):
    help = (
        "Compute features and read missing barcodes, then rebuild the search index and match new products. This "
        "process embeds the images; running workers take their share. Ctrl-C stops after the current batch; run it "
        "again to continue. "
        "Exit code 0: all done; 3: some images failed; 1: nothing could be done; 130: stopped by Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        for name, what in (
            ("missing", "images that are pending or lack features of the current models (the default)"),
            ("all", "every image"),
            ("failed", "images that failed"),
        ):
            which.add_argument(f"--{name}", dest="which", action="store_const", const=name, help=what)

        which.add_argument("--index-only", action="store_true", help="no image: only rebuild the search index")

    def handle(self, *, which: str | None, index_only: bool, **_: Any) -> None:
        try:
            with interruptible() as check:
                if index_only:
                    self._write(bulk.follow_up(check, rebuild_index=True, match=False))
                else:
                    self._reindex(which or "missing", check)
        except FollowUpError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"Stopped: {error}. Run `manage.py reindex` again to continue.") from error
        except KeyboardInterrupt as interrupt:
            raise CommandError(
                "Stopped. Run `manage.py reindex` again to continue.", returncode=EXIT_INTERRUPTED
            ) from interrupt

    def _reindex(self, which: str, check: Callable[[], None]) -> None:
        with files.locked(Path(settings.DATA_DIR) / "reindex.lock") as is_locked:
            if not is_locked:
                raise CommandError("Another `manage.py reindex` is running. Wait until it is done, or stop it.")
            self._embed_and_follow_up(which, check)

    def _embed_and_follow_up(self, which: str, check: Callable[[], None]) -> None:
        if claims.is_paused():
            raise CommandError("The queue is paused; resume it on the page Device and model. --index-only works now.")
        claims.release_stale_claims()
        if which != "failed":
            self._remake(check)
            self._read_barcodes(check)
        claims.requeue(which)
        embedded = bulk.embed_pending_images(check, recompute=which == "all")
        self._write([f"Embedded {embedded.ready:,} images.", *bulk.follow_up(check, rebuild_index=True)])
        for image_id, reason in embedded.failed.items():
            self.stderr.write(escape(f"image {image_id} {reason}"))
        if embedded.failed:
            raise CommandError(
                f"{len(embedded.failed)} images could not be embedded, see above.",
                returncode=3 if embedded.ready else 1,
            )

    def _remake(self, check: Callable[[], None]) -> None:
        """Make the images again that an earlier version of the decoding made."""
        made = remaking.remake_outdated(check)
        if made.changed or made.unchanged:
            self._write([f"Made {made.changed:,} images again from their originals. {made.unchanged:,} look the same."])
        for image_id, reason in made.failed.items():
            self.stderr.write(escape(f"image {image_id} was not made again: {reason}"))
        if left := remaking.outdated_images().count() - len(made.failed):
            self._write([f"{left:,} images of an earlier version have no original and stay as they are."])

    def _read_barcodes(self, check: Callable[[], None]) -> None:
        """Read the barcodes of the images that were stored before they were read at intake."""
        unread = barcodes.unread_images().count()
        if not unread:
            return
        with progress_bar(unread, "Reading barcodes", "images") as bar:

            def progress(count: int) -> None:
                bar.update(count)
                check()

            read = barcodes.read_unread(progress)
        self._write([f"Read the barcodes of {read.images:,} images. Found {read.barcodes:,}."])
        for image_id, reason in read.failed.items():
            self.stderr.write(escape(f"the barcodes of image {image_id} were not read: {reason}"))

    def _write(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self.stdout.write(sentence)
