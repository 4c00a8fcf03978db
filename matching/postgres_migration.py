"""Copy a SQLite catalogue into an empty PostgreSQL database and verify the copy."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.color import no_style
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import JSONField, Model, TextField
from django.db.models.functions import Cast

from core.database.schema import without_squashed
from gpu.search_vectors import search_vector
from matching import index
from matching.index import Filters
from products.models import Feature, Product

_SOURCE = "source"
_CHUNK_ROWS = 1000
# Not copied: the index in the database is rebuilt, and users sign in again.
_EXCLUDED_TABLES = {"index_changes", "search_vectors", "django_session"}
_SAMPLE_QUERIES, _NEIGHBOURS = 100, 10
# Both engines may be approximate, so at least this share of the results must be the same.
_MIN_AGREEMENT = 0.98


class CopyError(Exception):
    """The catalogue was not copied; the target is unchanged. The text is for people."""


@dataclass(frozen=True, slots=True)
class Table:
    """A copied table. ``digest``: SHA-256 over all values of all rows by rising key."""

    name: str
    rows: int
    digest: str


def copy_catalogue(path: Path, progress: Callable[[str, int], object] = lambda *_: None) -> list[Table]:
    """Copy every table of the SQLite catalogue at ``path`` and compare both sides.

    Keeps the keys. Works in one transaction. Calls ``progress(table, rows)``.
    Raises CopyError if the target has products or anything differs.
    """
    if connection.vendor != "postgresql":
        raise CopyError("Set DATABASE_URL to the PostgreSQL database that the catalogue moves to.")
    if not path.is_file():
        raise CopyError(f"There is no SQLite catalogue at {path}.")
    if Product.objects.exists():
        raise CopyError("The target already holds products. Name an empty database in DATABASE_URL.")
    connections.databases[_SOURCE] = connections.databases["default"] | {
        "ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {}, "CONN_HEALTH_CHECKS": False,
    }  # fmt: skip
    try:
        _check_migrations(path)
        with transaction.atomic():
            models = _models()
            for model in reversed(models):
                _clear(model)
            for model in models:
                _copy(model, progress)
            with connection.cursor() as cursor:
                for statement in connection.ops.sequence_reset_sql(no_style(), models):
                    cursor.execute(statement)
                _keep_ids_unique(models, cursor)
            return [_compare(model) for model in models]
    finally:
        connections[_SOURCE].close()
        del connections[_SOURCE]
        del connections.databases[_SOURCE]


def _keep_ids_unique(models: Sequence[type[Model]], cursor: Any) -> None:
    """Let new rows get ids that no row had before, because decisions name deleted products by their ids."""
    with connections[_SOURCE].cursor() as source:
        source.execute("SELECT name, seq FROM sqlite_sequence WHERE seq > 0")
        last = dict(source.fetchall())
    for model in models:
        table, key = model._meta.db_table, model._meta.pk.column
        if table in last:
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", [table, key, last[table]])


def compare_results(path: Path) -> tuple[int, int]:
    """Run the same 100 queries in both databases. Return (same results, all results).

    Raises CopyError if fewer than 98 % are the same.
    """
    before, after = _results_of_database(f"sqlite:///{path}"), sample_results()
    if before.keys() != after.keys():
        raise CopyError("The two databases do not have the same features.")
    total = sum(map(len, before.values()))
    same = sum(len(set(before[key]) & set(after[key])) for key in before)
    if same < _MIN_AGREEMENT * total:
        raise CopyError(f"The new database returns only {same:,} of {total:,} results of the old one.")
    return same, total


def sample_results() -> dict[str, list[int]]:
    """Return the ten most similar products of up to 100 features, by feature id.

    The features are spread evenly over the catalogue.
    """
    ids = list(Feature.objects.order_by("id").values_list("id", flat=True))
    sample = ids[:: max(1, len(ids) // _SAMPLE_QUERIES)][:_SAMPLE_QUERIES]
    results = {}
    for feature in Feature.objects.filter(id__in=sample).order_by("id"):
        vector = search_vector(feature.to_features())[None]
        if vector.any():
            hits = index.search(
                vector, _NEIGHBOURS, kind=feature.kind, model=feature.model_name,
                filters=Filters(exclude_product=feature.product_id),
            )  # fmt: skip
            results[str(feature.pk)] = [hit.product_id for hit in hits]
    return results


def _results_of_database(url: str) -> dict[str, list[int]]:
    """Return ``sample_results`` of another database.

    Runs in a subprocess, because the settings name one database.
    """
    env = os.environ | {"DATABASE_URL": url}
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "move_to_postgres", "--answers"]
    process = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if process.returncode:
        raise CopyError(f"The old database cannot be searched: {process.stderr.strip()[-500:]}")
    results: dict[str, list[int]] = json.loads(process.stdout)
    return results


def _check_migrations(path: Path) -> None:
    sql = "SELECT app, name FROM django_migrations WHERE app <> 'matching_pgvector'"
    applied = []
    for alias in (_SOURCE, "default"):
        with connections[alias].cursor() as cursor:
            cursor.execute(sql)
            applied.append(without_squashed(cursor.fetchall()))
    if applied[0] != applied[1]:
        raise CopyError(f"{path} has other migrations. Run `manage.py migrate` on both databases first.")


def _models() -> list[type[Model]]:
    """Return the model of every table, including many-to-many tables.

    Order does not matter, because PostgreSQL checks foreign keys at the commit.
    """
    models = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]
    return [model for model in models if not model._meta.proxy and model._meta.db_table not in _EXCLUDED_TABLES]


def _clear(model: type[Model]) -> None:
    """Delete the rows that migrate added to the target.

    Its content types, permissions and groups have other keys.
    """
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(model._meta.db_table)
        cursor.execute(f"DELETE FROM {table}")  # noqa: S608  # nosec B608 # a quoted name


def _copy(model: type[Model], progress: Callable[[str, int], object]) -> None:
    fields = model._meta.concrete_fields
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    placeholders = ", ".join(["%s"] * len(fields))
    table = quote(model._meta.db_table)
    sql = f"INSERT INTO {table} ({columns}) VALUES ({placeholders})"  # noqa: S608  # nosec B608 # quoted names
    for rows in _chunks(model, _SOURCE):
        values = [
            [field.get_db_prep_save(value, connection) for field, value in zip(fields, row, strict=True)]
            for row in rows
        ]
        try:
            with connection.cursor() as cursor:
                cursor.executemany(sql, values)
        except DatabaseError as error:
            raise CopyError(
                f"PostgreSQL cannot store a row of {model._meta.db_table}: {str(error).strip()[:500]}. If it is a "
                "product's attributes, `manage.py verify` names the product."
            ) from error
        progress(model._meta.db_table, len(rows))


def _compare(model: type[Model]) -> Table:
    name = model._meta.db_table
    (rows, digest), (copied, copied_digest) = _digest(model, _SOURCE), _digest(model, "default")
    if rows != copied:
        raise CopyError(f"Only {copied:,} of {rows:,} rows of {name} were copied.")
    if digest != copied_digest:
        raise CopyError(f"The rows of {name} are not the same after the copy.")
    return Table(name, rows, digest)


def _digest(model: type[Model], alias: str) -> tuple[int, str]:
    count, digest = 0, hashlib.sha256()
    for rows in _chunks(model, alias, json_as_text=True):
        count += len(rows)
        columns = [
            _normalised(column) if isinstance(field, JSONField) else column
            for field, column in zip(model._meta.concrete_fields, zip(*rows, strict=True), strict=True)
        ]
        for row in zip(*columns, strict=True):
            for value in row:
                digest.update(_bytes(value) + b"\x1f")
    return count, digest.hexdigest()


def _normalised(column: Sequence[str]) -> list[str]:
    """Return JSON texts as PostgreSQL writes them, so that equal values have equal texts at any depth."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (json::jsonb)::text FROM unnest(%s::text[]) WITH ORDINALITY AS given (json, row) ORDER BY row",
            [list(column)],
        )
        return [text for (text,) in cursor.fetchall()]


def _bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value)
    return repr(value).encode() if not hasattr(value, "isoformat") else value.isoformat().encode()


def _chunks(model: type[Model], alias: str, *, json_as_text: bool = False) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Yield the values of the concrete fields of all rows, by rising key."""
    names: list[Any] = [
        Cast(field.attname, TextField()) if json_as_text and isinstance(field, JSONField) else field.attname
        for field in model._meta.concrete_fields
    ]
    rows = model._base_manager.using(alias).order_by("pk")
    last = None
    while True:
        chunk = list((rows if last is None else rows.filter(pk__gt=last)).values_list("pk", *names)[:_CHUNK_ROWS])
        if not chunk:
            return
        last = chunk[-1][0]
        yield [row[1:] for row in chunk]
