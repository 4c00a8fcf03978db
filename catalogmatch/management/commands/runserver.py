"""runserver: Django's command, which first checks that the database can be read."""

from __future__ import annotations

from typing import Any

from django.contrib.staticfiles.management.commands.runserver import Command as DjangoRunserver
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder


class Command(DjangoRunserver):
    def run(self, **options: Any) -> None:
        # Here manage.py reports the error in a sentence. Later it would be a traceback of the reloader's thread.
        MigrationRecorder(connection).applied_migrations()
        connection.close()
        super().run(**options)
