"""evaluate_matching: measure recall and speed on queries whose products are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.errors import UnreadableFileError
from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from core.spreadsheets.reader import open_table
from gpu.encoders.registry import ClipUnavailableError
from gpu.vectors import Kind
from matching.evaluation import RejectedQuery, evaluate
from matching.index import SearchVectorError
from products.model_versions import VersionError
from products.queue.query_features import FeaturesPendingError


class Command(BaseCommand):
    help = (
        "Measure recall@1/5/10 by product, mean reciprocal rank and seconds per query. Nothing is stored. "
        "Exit code 0: every query was searched; 3: some could not be and count as missed; 1: nothing could be done."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # --version is the model's here, not Django's.
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("queries", type=Path, help="a CSV with the columns image and sku")
        parser.add_argument("--json", dest="report", type=Path, metavar="PATH", help="also write the figures here")
        parser.add_argument("--feature-type", choices=["clip", "legacy"], help="compare only this kind of features")
        parser.add_argument(
            "--leave-out", type=_share, default=0.0, metavar="SHARE",
            help="leave this share of the queried products out of the catalogue, to measure “not in the catalogue”",
        )  # fmt: skip
        parser.add_argument("--version", help="search with this version instead of the one in use, see list_models")

    def handle(
        self,
        *,
        queries: Path,
        report: Path | None,
        feature_type: Kind | None,
        version: str | None,
        leave_out: float,
        **_: Any,
    ) -> None:
        try:
            with (
                interruptible() as check,
                open_table(queries, ["image", "sku"]) as table,
                progress_bar(table.total, "Searching", "queries") as bar,
            ):

                def progress(rejected: RejectedQuery | None) -> None:
                    bar.update()
                    if rejected is not None:
                        with bar.external_write_mode():
                            self.stderr.write(
                                f"row {rejected.row} ({rejected.image}): {rejected.code}: {rejected.reason}"
                            )
                    check()

                evaluation = evaluate(table, queries.parent, feature_type, progress, version, leave_out)
        except (
            UnreadableFileError,
            ClipUnavailableError,
            FeaturesPendingError,
            SearchVectorError,
            VersionError,
        ) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as interrupt:
            raise CommandError("Stopped. Figures of a part would mislead.", returncode=EXIT_INTERRUPTED) from interrupt
        if not evaluation.ranks:
            raise CommandError(f"{queries} has no queries.")
        figures = evaluation.figures()
        for name in ("queries", "recall@1", "recall@5", "recall@10", "mrr", "seconds_per_query", "compared_by"):
            self.stdout.write(f"{name:18} {_format(figures[name])}")
        for name in ("ece", "brier", "auroc_not_in_catalogue", "coverage_at_98", "coverage_at_95", "answers"):
            if name in figures:
                self.stdout.write(f"{name:22} {_format(figures[name])}")
        if report is not None:
            _write(report, figures)
        if evaluation.rejected:
            raise CommandError(
                f"{len(evaluation.rejected)} queries could not be searched and count as missed, see above.",
                returncode=3 if evaluation.seconds else 1,
            )


def _share(text: str) -> float:
    """Read an argument from 0 to below 1. Raises ValueError, which argparse shows."""
    share = float(text)
    if not 0 <= share < 1:
        raise ValueError(text)
    return share


def _format(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {share:.3f}" for name, share in value.items())
    if isinstance(value, float):
        return f"{value:.4f}"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _write(path: Path, figures: dict[str, object]) -> None:
    try:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
