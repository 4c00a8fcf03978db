"""Fetch and check the CLIP weights."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gpu.encoders.downloads import DownloadError, download_model


class Command(BaseCommand):
    help = "Fetches the CLIP weights from the model hub into CLIP_CACHE_DIR and checks them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="the model's name on the hub; default: CLIP_MODEL")

    def handle(self, *args: Any, name: str | None = None, **options: Any) -> None:
        try:
            model = download_model(name)
        except DownloadError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{model.model_id}: {model.embedding_dim} dimensions, {model.size_mb:.0f} MB in {model.folder}"
        )
