"""Learn the probabilities of answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from matching.answers import calibration
from matching.answers.catalogue_questions import CalibrationError
from products.model_versions import VersionError


class Command(BaseCommand):
    help = (
        "Learn how likely each candidate is the same product, and how likely none is, from the catalogue's own images "
        "and from decisions. The new probabilities are used if they are better on questions that they did not learn "
        "from. Exit code 0: learned; 1: too little to learn from."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # --version is the model's here, not Django's.
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--version", help="calibrate this version instead of the one in use, see list_models")
        parser.add_argument("--json", dest="path", type=Path, metavar="PATH", help="also write the figures here")

    def handle(self, *, version: str | None, path: Path | None, **_: Any) -> None:
        os.nice(10)  # searches on the same machine go first
        try:
            report = calibration.calibrate_version(version)
        except (CalibrationError, VersionError) as error:
            raise CommandError(str(error)) from error
        for name, value in report.items():
            self.stdout.write(f"{name:30} {'-' if value is None else value}")
        if report["same_from"] is None:
            self.stdout.write(
                f"No probability carries the answer “same” with {calibration.SAME_PROMISE:.0%}: a person should look."
            )
        self.stdout.write("They are used from now on." if report["adopted"] else "Those in use are kept.")
        if path is not None:
            try:
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
