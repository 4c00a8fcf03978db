"""List models and versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from matching.learning import model_jobs, versions
from matching.learning.versions import Listed


class Command(BaseCommand):
    help = (
        "List every encoder and version: where it is from, its dimensions, how many images have it, its state, what it "
        "reaches on this catalogue, and what it costs here."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", dest="report", type=Path, metavar="PATH", help="also write the list here")
        parser.add_argument("--measure", action="store_true", help="measure the encoders first; takes about a minute")

    def handle(self, *, report: Path | None, measure: bool, **_: Any) -> None:
        if measure:
            try:
                model_jobs.run(model_jobs.prepare_measurement())
            except model_jobs.BusyError as busy:
                raise CommandError(f"Another job runs: {busy}. Wait until it is done.") from busy
        listed = versions.list_versions()
        for one in listed:
            dim = f"{one.dim} dimensions" if one.dim else "dimensions unknown"
            images = f"{one.images:,} images ({one.coverage:.1%})"
            self.stdout.write(f"{one.name}: {one.kind} of {one.source}, {dim}, {images}, {one.state}{_figures(one)}")
        if report is not None:
            try:
                report.write_text(json.dumps([one.as_json() for one in listed], indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{report} cannot be written: {error.strerror}.") from error


def _figures(one: Listed) -> str:
    """Return what is known about recall and cost, each after a comma."""
    figures = [
        (one.recall_1, f"recall@1 {one.recall_1}"),
        (one.recall_5, f"recall@5 {one.recall_5}"),
        (one.images_per_second, f"{one.images_per_second} images/s"),
        (one.memory_mb, f"{one.memory_mb} MB of memory"),
    ]
    return "".join(f", {text}" for value, text in figures if value is not None)
