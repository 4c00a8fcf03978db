"""Export the CLIP model to ONNX Runtime, for CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gpu.encoders.onnx_export import ExportError, export_model
from gpu.encoders.protocol import LoadError
from gpu.encoders.weights import WeightsError
from gpu.text.export import export_text_model


class Command(BaseCommand):
    help = (
        "Writes the CLIP model for ONNX Runtime, which is faster on a CPU. CLIP_BACKEND=auto then uses the float32 "
        "model; INT8 is used with CLIP_BACKEND=onnx-int8 only."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--int8", action="store_true", help="also write the INT8 model")
        parser.add_argument(
            "--verify",
            type=Path,
            metavar="IMAGES_DIR",
            help="folder of images to measure with; default: those of the catalogue",
        )
        parser.add_argument("--force", action="store_true", help="install INT8 even below the bar, or unmeasured")

        parser.add_argument(
            "--text", action="store_true", help="write the text model CLIP_TEXT_MODEL, and nothing else"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["text"]:
            self._export_text()
            return
        images: Path = options["verify"] or Path(settings.MEDIA_ROOT) / "pictures"
        if options["verify"] and not images.is_dir():
            raise CommandError(f"{images} is not a folder.")
        paths = sorted(path for path in images.rglob("*") if path.is_file())
        try:
            done = export_model(paths, int8=options["int8"], force=options["force"])
        except (ExportError, WeightsError, LoadError) as error:
            raise CommandError(str(error)) from error
        for part in done:
            measured = str(part.agreement) if part.agreement else "not measured, too few images"
            self.stdout.write(f"{part.precision}: {part.size_mb:.0f} MB in {part.path.parent}; {measured}")

    def _export_text(self) -> None:
        try:
            path, cosine = export_text_model()
        except (ExportError, LoadError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"text: {path.stat().st_size / 2**20:.0f} MB in {path.parent}; cosine to torch {cosine:.5f}")
