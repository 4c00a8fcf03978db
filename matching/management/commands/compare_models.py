"""Compare two versions."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.errors import UnreadableFileError
from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from core.spreadsheets.reader import open_table
from gpu.encoders.registry import ClipUnavailableError
from matching.index import SearchVectorError
from matching.learning.held_out import ComparisonError
from matching.learning.version_comparison import Queries, Report, compare_versions
from products.model_versions import VersionError
from products.models import Product
from products.queue.query_features import FeaturesPendingError


class Command(BaseCommand):
    help = (
        "Compare two versions: recall@1/5/10 with intervals at 95 %, pairs gained and lost, scores and cost. Without "
        "QUERIES.csv they search in catalogue images and in those of confirmed matches, and heads are learned again "
        "without the products that are searched. Nothing is stored. Exit code 3: some queries could not be searched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        names = "a name from list_models, or 'encoder' for what answers without a head"
        parser.add_argument("a", help=names)
        parser.add_argument("b", help=names)
        parser.add_argument("queries", type=Path, nargs="?", help="a CSV with the columns image and sku")
        parser.add_argument("--json", dest="report", type=Path, metavar="PATH", help="also write the report here")

    def handle(self, *, a: str, b: str, queries: Path | None, report: Path | None, **_: Any) -> None:
        os.nice(10)  # searches on the same machine go first
        try:
            with interruptible() as check, ExitStack() as stack:
                table = stack.enter_context(open_table(queries, ["image", "sku"])) if queries is not None else None
                total = table.total if table is not None else Product.objects.filter(is_historical=True).count()
                what, unit = ("Reading", "products") if table is None else ("Searching", "queries")
                bar = stack.enter_context(progress_bar(total, what, unit))

                def progress(done: int) -> None:
                    bar.update(done)
                    check()

                given = Queries(table, queries.parent) if table is not None and queries is not None else None
                found = compare_versions(a, b, given, progress)
        except (
            VersionError, ComparisonError, UnreadableFileError, ClipUnavailableError, FeaturesPendingError,
            SearchVectorError,
        ) as error:  # fmt: skip
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as interrupt:
            raise CommandError("Stopped. Figures of a part would mislead.", returncode=EXIT_INTERRUPTED) from interrupt
        self._show(found)
        if report is not None:
            try:
                report.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{report} cannot be written: {error.strerror}.") from error
        for refused in found["refused"]:
            self.stderr.write(f"row {refused['row']}: {refused['reason']}")
        if found["refused"]:
            raise CommandError(f"{len(found['refused'])} queries could not be searched, see above.", returncode=3)

    def _show(self, found: Report) -> None:
        names = {side: found[side] for side in "ab"}
        self.stdout.write(f"a: {names['a']}\nb: {names['b']}")
        for one in found["sets"]:
            self.stdout.write(
                f"\n{one['name']}: {one['queries']:,} queries for {one['products']:,} "
                f"of {one['gallery_products']:,} products"
            )
            for name in one["difference"]:
                a, b, difference = (_interval(one[key][name]) for key in ("a", "b", "difference"))
                self.stdout.write(f"{name:10} a {a}  b {b}  difference {difference}")
            scores = one["scores"]
            if scores["shift"] is not None:
                self.stdout.write(f"median score of the right product: a {scores['a']}, b {scores['b']}")
            self.stdout.write(f"right first only with b: {one['gained']:,}; only with a: {one['lost']:,}")
            for label, pairs in (("gained", one["gained_pairs"]), ("lost", one["lost_pairs"])):
                for pair in pairs[:5]:
                    image = pair["file"] or f"image {pair['image']}"
                    self.stdout.write(
                        f"  {label}: {image} of product {pair['product']}, "
                        f"rank {pair['rank_a'] or '-'} → {pair['rank_b'] or '-'}"
                    )
            better = names.get(one["better"])
            self.stdout.write(f"{better} is better." if better else "The difference is within the noise.")
        self.stdout.write("")
        for side, cost in found["cost"].items():
            taken = f"{cost['ms_per_query']} ms a query, " if cost["ms_per_query"] is not None else ""
            self.stdout.write(
                f"{side}: {taken}{cost['bytes_per_vector']:,} bytes a vector, {cost['dimensions']} dimensions"
            )


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
