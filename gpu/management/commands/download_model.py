"""Fetch and check the CLIP weights."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gpu.encoders.downloads import DownloadError, download_model, download_text_model
from gpu.text import files as text_files


class Command(BaseCommand):
    help = "Fetches the CLIP weights from the model hub into CLIP_CACHE_DIR and checks them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "name", nargs="?", help="the model's name on the hub; default: CLIP_MODEL and CLIP_TEXT_MODEL"
        )

    def handle(self, *args: Any, name: str | None = None, **options: Any) -> None:
        text_model = text_files.configured()
        try:
            if name is None or name != text_model:
                model = download_model(name)
                self.stdout.write(
                    f"{model.model_id}: {model.embedding_dim} dimensions, {model.size_mb:.0f} MB in {model.folder}"
                )
            if text_model and name in (None, text_model):
                text = download_text_model(text_model)
                self.stdout.write(f"{text.model_id}: text of up to {text.max_tokens} tokens, in {text.folder}")
        except DownloadError as error:
            raise CommandError(str(error)) from error
