"""Train the encoder itself on the catalogue's views and decisions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from gpu.training.errors import FineTuningError
from matching.fine_tuning import report
from matching.fine_tuning.run import DEFAULT_EPOCHS, fine_tune


class Command(BaseCommand):
    help = (
        "Train the encoder itself on the catalogue's views and decisions, and write it as a model folder that "
        "CLIP_MODEL accepts. Ends with its comparison on products that it did not see. What answers is unchanged. A "
        "training that was stopped goes on with the same command. Exit code 0: trained; 1: not possible."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--start-from",
            metavar="MODEL",
            help="a model of the hub, a model folder, a name from list_models, or a head, which stands for its "
            "encoder; default: the encoder in use",
        )
        parser.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS, metavar="N", help="at most; default: 10")
        parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder; default: one in the data folder")
        parser.add_argument("--json", dest="report", type=Path, metavar="PATH", help="also write the report here")

    def handle(self, *, start_from: str | None, epochs: int, out: Path | None, report: Path | None, **_: Any) -> None:
        os.nice(10)  # searches on the same machine go first
        try:
            with interruptible() as check:
                figures = fine_tune(start_from, epochs, out, progress_bar, check)
        except FineTuningError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as interrupt:
            raise CommandError(
                "Stopped. The same command goes on from the last checkpoint.", returncode=EXIT_INTERRUPTED
            ) from interrupt
        self._show(figures)
        if report is not None:
            try:
                report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{report} cannot be written: {error.strerror}.") from error

    def _show(self, figures: dict[str, Any]) -> None:
        left_out = figures["left_out"]
        self.stdout.write(
            f"{figures['model']}, from {figures['started_from']}: {figures['views']:,} views, "
            f"{figures['rejected_pairs']:,} rejected pairs, {figures['epochs']} epochs, the best was "
            f"{figures['best_epoch']}, {figures['seconds']:.0f} s, data {figures['data_hash'][:12]}"
        )
        if left_out["contradicting"]:
            self.stdout.write(f"{left_out['contradicting']} images were left out: they belong to two products.")
        if left_out["ambiguous"]:
            self.stdout.write(f"{left_out['ambiguous']} new products were left out: they are confirmed to be several.")
        if left_out["unreadable"]:
            self.stdout.write("Some images could not be read. `manage.py verify` names them.")
        for line in report.lines(figures):
            self.stdout.write(line)
        better = figures["better"]
        if better == "after":
            self.stdout.write(
                f"It is better. Set CLIP_MODEL={figures['folder']}, run `manage.py reindex --missing`, then "
                f"`manage.py switch_model {figures['model']}`."
            )
        elif better == "before":
            self.stdout.write("It is worse than before. Do not use it.")
        else:
            self.stdout.write("The difference is within the noise. More views or decisions may change that.")
