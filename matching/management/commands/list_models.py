"""List models and versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from matching.learning import versions


class Command(BaseCommand):
    help = "List every encoder and version: where it is from, its dimensions, how many images have it, and its state."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", dest="report", type=Path, metavar="PATH", help="also write the list here")

    def handle(self, *, report: Path | None, **_: Any) -> None:
        listed = versions.list_versions()
        for one in listed:
            dim = f"{one.dim} dimensions" if one.dim else "dimensions unknown"
            images = f"{one.images:,} images ({one.coverage:.1%})"
            self.stdout.write(f"{one.name}: {one.kind} of {one.source}, {dim}, {images}, {one.state}")
        if report is not None:
            try:
                report.write_text(json.dumps([one.as_json() for one in listed], indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{report} cannot be written: {error.strerror}.") from error
