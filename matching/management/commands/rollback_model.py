"""Switch back to the model version before."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from matching.learning import versions
from products.model_versions import VersionError


class Command(BaseCommand):
    help = "Let the version that answered before the last switch answer again."

    def handle(self, **_: Any) -> None:
        try:
            version = versions.rollback()
        except VersionError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{version} answers again.")
