"""Switch to another model version."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from matching.learning import versions
from products.model_versions import VersionError


class Command(BaseCommand):
    help = "Let another version answer from the next search on. Refuses a version that does not cover the catalogue."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", help="a name from list_models, or 'encoder' for the models without a head")

    def handle(self, *, version: str, **_: Any) -> None:
        try:
            versions.switch(version)
        except VersionError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{version} answers from now on. `manage.py rollback_model` goes back.")
