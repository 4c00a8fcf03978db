"""Ask about altered copies of catalogue images, whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from core.progress import progress_bar
from gpu.encoders.registry import ClipUnavailableError
from matching.index import SearchVectorError
from matching.quality import self_audit
from matching.quality.self_audit import SelfAuditError


def _advance(bar: tqdm[NoReturn]) -> None:
    bar.update(1)


class Command(BaseCommand):
    help = (
        "Search altered copies of catalogue images, which must be found, and the same copies with their products left "
        "out, which must not be called the same as another product. Nothing of this enters the catalogue. Exit code "
        "0: done, also if the answers got worse; 1: nothing could be asked about."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--count", type=int, default=self_audit.COUNT, help="products to ask about (default 50)")
        parser.add_argument("--seed", type=int, help="choose and alter the same images as another time")
        parser.add_argument("--json", dest="path", type=Path, metavar="PATH", help="also write the figures here")

    def handle(self, *, count: int, seed: int | None, path: Path | None, **_: Any) -> None:
        if count < 1:
            raise CommandError("--count must be 1 or more.")
        try:
            with progress_bar(count, "Asking", "products") as bar:
                audit = self_audit.run(count, seed, lambda: _advance(bar))
        except (SelfAuditError, SearchVectorError, ClipUnavailableError) as error:
            raise CommandError(str(error)) from error
        problem = self_audit.problem_of(audit)
        report = {
            "version": audit.model_name,
            "expected": audit.expected,
            "found": audit.found,
            "left_out": audit.left_out,
            "false_alarms": audit.false_alarms,
            "missed": audit.report["missed"],
            "alarms": audit.report["alarms"],
            "problem": problem,
        }
        self.stdout.write(f"{audit.found} of {audit.expected} altered copies of catalogue images were found.")
        self.stdout.write(
            f"{audit.false_alarms} of {audit.left_out} left-out products were called the same as another."
        )
        if problem:
            self.stdout.write(f"WARN: {problem}")
        if path is not None:
            try:
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
