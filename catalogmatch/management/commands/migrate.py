"""migrate: Django's command, with a clear error for a database that is too old."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from core.database.schema import SchemaTooOldError, check_upgradable


class Command(DjangoMigrate):
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            check_upgradable(MigrationRecorder(connections[options["database"]]).applied_migrations())
        except SchemaTooOldError as error:
            raise CommandError(str(error)) from error
        super().handle(*args, **options)
