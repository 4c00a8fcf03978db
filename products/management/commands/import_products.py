"""Import a catalogue from a CSV, an XLSX, a folder or a ZIP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from core.errors import UnreadableFileError
from core.escaping import escape
from core.history.recording import ChangeSource, acting_as
from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from products.downloads import queue
from products.downloads.fetcher import fetch_pending
from products.downloads.tasks import notify_fetchers
from products.importing.importer import RowResult, RowStatus, import_rows
from products.importing.rows import Choices, ImportSource, open_source
from products.importing.tables.mapping import ATTRIBUTE, NOTHING, ROLES, presets
from products.queue import bulk, claims
from products.tasks import notify_workers


class Command(BaseCommand):
    help = (
        "Import products with their images. Running it again adds nothing twice and continues where it stopped. "
        "Exit code 0: all rows are in; 3: some were refused; 1: nothing could be done; 130: stopped by Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, help="a table, or a folder or ZIP of images")
        parser.add_argument(
            "--historical", action="store_true", help="products are historical if their row does not say"
        )
        parser.add_argument("--dry-run", action="store_true", help="check every row and image, save nothing")
        parser.add_argument(
            "--no-views",
            action="store_true",
            help="each file of a folder or ZIP is a product of its own, also SKU_1.jpg and SKU_2.jpg",
        )
        parser.add_argument(
            "--map", action="append", default=[], metavar="COLUMN=FIELD", dest="pairs",
            help=f"what a column of a table means; FIELD is one of {', '.join(ROLES)}; can be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--preset", default="", metavar="NAME",
            help=f"the tool that wrote the table: {', '.join(presets())}, or none; by default it is recognised",
        )  # fmt: skip
        parser.add_argument("--images", type=Path, metavar="DIR", help="folder that a table's images are relative to")

    def handle(
        self,
        *,
        path: Path,
        historical: bool,
        dry_run: bool,
        images: Path | None,
        no_views: bool = False,
        pairs: Sequence[str] = (),
        preset: str = "",
        **_: Any,
    ) -> None:
        self.counts: Counter[RowStatus] = Counter()
        problem = ""
        try:
            with interruptible() as check:
                try:
                    choices = Choices(preset, pairs)
                    with open_source(
                        path, images=images, historical=historical, group=not no_views, choices=choices
                    ) as source:
                        self._tell_views({} if no_views else source.views)
                        self._tell_columns(source)
                        self._import(source, dry_run, check)
                except UnreadableFileError as error:
                    problem = escape(str(error))
                    if not self.counts:
                        raise CommandError(problem) from error
                if not dry_run:
                    problem = self._finish(check) or problem
        except KeyboardInterrupt as interrupt:
            raise CommandError(
                f"Stopped: {self._summary()}. Run the same command again to continue.", returncode=EXIT_INTERRUPTED
            ) from interrupt
        except (OSError, DatabaseError) as error:
            raise CommandError(
                f"Stopped ({self._summary()}): {escape(str(error)).removesuffix('.')}. "
                "Run the same command again to continue."
            ) from error
        if not self.counts:
            raise CommandError(f"{escape(str(path))} contains no rows and no images.")
        self.stdout.write(f"{'Dry run' if dry_run else 'Done'}: {self._summary()}.")
        rejected = self.counts[RowStatus.REJECTED]
        if rejected == self.counts.total():
            raise CommandError("Nothing could be imported: every row was refused, see above.")
        if problem or rejected:
            summary = f"{rejected} rows were refused, see above." if rejected else ""
            raise CommandError(f"{problem} {summary}".strip(), returncode=3)

    def _import(self, source: ImportSource, dry_run: bool, check: Callable[[], None]) -> None:
        with progress_bar(source.total, "Importing", "rows") as bar, acting_as(ChangeSource.IMPORT):
            for result in import_rows(source, dry_run=dry_run):
                self._count(result, bar)
                bar.update(not result.row.part)
                check()

    def _fetch(self, check: Callable[[], None]) -> None:
        """Fetch the images at addresses, of this import and of those that were stopped."""
        with progress_bar(self.counts[RowStatus.TO_FETCH] or None, "Fetching", "images") as bar:

            def report(result: RowResult) -> None:
                self.counts[RowStatus.TO_FETCH] = max(0, self.counts[RowStatus.TO_FETCH] - 1)
                self._count(result, bar)
                bar.update()

            fetch_pending(report, check)

    def _count(self, result: RowResult, bar: Any) -> None:
        self.counts[result.status] += 1
        row = result.row
        lines = [f"{result.code}: {result.reason}"] if result.status is RowStatus.REJECTED else []
        lines += row.notes if not row.part else ()
        if lines:
            with bar.external_write_mode():
                for line in lines:
                    self.stderr.write(escape(f"row {row.number} ({row.label}): {line}"))

    def _tell_views(self, views: dict[str, Any]) -> None:
        if views:
            self.stdout.write(
                escape(
                    f"{views['files']:,} files are views of {views['products']:,} products by their names, such as "
                    f"{', '.join(views['example'])} of {views['sku']}. With --no-views each is a product of its own."
                )
            )

    def _tell_columns(self, source: ImportSource) -> None:
        """Tell which tool and columns were recognised, if a column is not named after its field."""
        columns = source.mapping
        if columns is None or source.problem:
            return
        fields = [
            f"{role} from {name}"
            for name, role in zip(columns.columns, columns.roles, strict=True)
            if role not in (ATTRIBUTE, NOTHING, name.lower())
        ]
        if fields or source.note:
            tool = (
                f"Recognised {columns.preset.label}: " if columns.preset is not None else "Columns: " if fields else ""
            )
            end = ". " if fields else ""
            self.stdout.write(escape(f"{tool}{', '.join(fields)}{end}{source.note}".strip()))

    def _finish(self, check: Callable[[], None]) -> str:
        """Embed and match the imported products. Return a sentence if some failed."""
        if claims.is_paused():
            self.stdout.write("The queue is paused. The imported products wait until it is resumed.")
            return ""
        if settings.HAS_BROKER:
            notify_workers()
            if self.counts[RowStatus.TO_FETCH]:
                notify_fetchers()
                self.stdout.write(
                    f"The workers fetch {self.counts[RowStatus.TO_FETCH]:,} images from their addresses. "
                    "The import page of the admin shows those that cannot be fetched."
                )
            self.stdout.write("The workers embed and match the imported products.")
            return ""
        if queue.has_pending():
            self._fetch(check)
        embedded = bulk.embed_pending_images(check)
        sentences = bulk.follow_up(check)
        self.stdout.write(" ".join([f"Embedded {embedded.ready:,} images.", *sentences]))
        for image_id, reason in embedded.failed.items():
            self.stderr.write(escape(f"image {image_id} {reason}"))
        return f"{len(embedded.failed)} images could not be embedded, see above." if embedded.failed else ""

    def _summary(self) -> str:
        # The command changes no existing product. Images to fetch are named if there are any.
        left_out = {RowStatus.UPDATED} | ({RowStatus.TO_FETCH} if not self.counts[RowStatus.TO_FETCH] else set())
        statuses = [status for status in RowStatus if status not in left_out]
        return ", ".join(f"{self.counts[status]:,} {status}" for status in statuses)
