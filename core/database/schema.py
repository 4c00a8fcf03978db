"""Which migrations the database has, and whether this version can upgrade it."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

# Apps of earlier versions. A migration of ours took over their tables, and their own migrations are gone.
RETIRED_APPS = frozenset({"knox"})

Key = tuple[str, str]  # app label and name of a migration


class SchemaTooOldError(Exception):
    """The database is too old to be upgraded. The message says what to do."""


def missing_migrations() -> list[str]:
    """Return the migrations that the database lacks.

    Raises SchemaTooOldError and DatabaseError.
    """
    check_upgradable(MigrationRecorder(connection).applied_migrations())
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def known_migrations() -> set[Key]:
    """Return every migration that this version has, or has squashed into another."""
    squashed = _squashed_migrations()
    return set(MigrationLoader(None).disk_migrations) | {key for replaced in squashed.values() for key in replaced}


def check_upgradable(applied: Collection[Key]) -> None:
    """Raise SchemaTooOldError if migrations are missing that were squashed since."""
    for replaced in _squashed_migrations().values():
        missing = [key for key in replaced if key not in applied]
        if missing and len(missing) < len(replaced):
            app, name = missing[-1]
            raise SchemaTooOldError(
                "The database was made by a version that is too old to be upgraded in one step. "
                f"Upgrade it with the last version that has the migration {app}.{name}, then with this one."
            )


def without_squashed(applied: Collection[Key]) -> set[Key]:
    """Return the migrations without those that others replace.

    With this, old and new databases compare equal.
    """
    return set(applied) - {key for replaced in _squashed_migrations().values() for key in replaced}


def _squashed_migrations() -> dict[Key, list[Key]]:
    disk = MigrationLoader(None).disk_migrations
    return {key: list(migration.replaces) for key, migration in disk.items() if migration.replaces}
