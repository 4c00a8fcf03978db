"""Measure which backend is the fastest on this machine, and use it from then on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gpu.backends import choice
from gpu.backends.measuring import MeasuringError, describe, measure
from gpu.encoders import selection
from gpu.encoders.weights import WeightsError


class Command(BaseCommand):
    help = (
        "Measures what each backend does with the models in use on this machine, some seconds each. With "
        "CLIP_BACKEND=auto, workers then use the fastest that agrees with full precision, also those that are running."
    )

    requires_system_checks = []  # a worker starts this, and their warnings would fill its log

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", type=Path, metavar="PATH", help="also write all figures to this file")
        parser.add_argument(
            "--images", type=Path, metavar="DIR", help="measure on these images; default: the catalogue's"
        )
        parser.add_argument("--model", help="a hub name, folder or ONNX file; default: all that embed images")
        parser.add_argument("--low-priority", action="store_true", help="let everything else on this machine go first")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path | None = options["images"]
        if folder is not None and not folder.is_dir():
            raise CommandError(f"{folder} is not a folder.")
        if options["low_priority"]:
            os.nice(19)
        sources = [options["model"]] if options["model"] else [encoder.source for encoder in selection.wanted()]
        measured = []
        for source in sources:
            try:
                measured.append(measure(source, folder, self.stderr.write))
            except (MeasuringError, WeightsError) as error:
                raise CommandError(str(error)) from error
            self._print(measured[-1])
        if options["json"]:
            content = json.dumps([one.as_json() for one in measured], indent=2) + "\n"
            try:
                options["json"].write_text(content, encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{options['json']} cannot be written: {error.strerror or error}.") from error

    def _print(self, measured: choice.Choice) -> None:
        drawn = f", {measured.rendered} of them drawn" if measured.rendered else ""
        self.stdout.write(f"{measured.model}, {measured.images} images{drawn}, {measured.seconds:.0f} s")
        for result in measured.results:
            self.stdout.write(f"  {describe(result)}")
        self.stdout.write(f"  in use here with CLIP_BACKEND=auto: {measured.backend}")
