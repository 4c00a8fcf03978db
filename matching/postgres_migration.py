"""Carry a SQLite catalogue over into an empty PostgreSQL database, and verify what arrived."""

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
from django.db import connection, connections, transaction
from django.db.models import Model

from core.schema import without_squashed
from matching import index
from matching.index import Filters
from matching.similarity import search_vector
from products.models import Feature, Product

_SOURCE = "source"
_CHUNK = 1000
# All tables move but these. What of the index the database keeps is rebuilt; people sign in again.
_LEFT_BEHIND = {"index_changes", "search_vectors", "django_session"}
_QUESTIONS, _NEIGHBOURS = 100, 10
# Both engines may be approximate; what they say of one and the same vector may differ so rarely.
_AGREEMENT = 0.98


class CopyError(Exception):
    """The catalogue was not carried over; the target is as it was before. The text is for people."""


@dataclass(frozen=True, slots=True)
class Table:
    """What was carried over of one table. ``digest``: SHA-256 over all values of all rows by rising key."""

    name: str
    rows: int
    digest: str


def copy_catalogue(path: Path, progress: Callable[[str, int], object] = lambda *_: None) -> list[Table]:
    """Copy every table of the SQLite catalogue at ``path`` with its keys, in one transaction, and compare both sides.

    ``progress(table, rows)``. Raises MoveError when the target holds products, or when anything differs.
    """
    if connection.vendor != "postgresql":
        raise CopyError("Set DATABASE_URL to the PostgreSQL database that the catalogue moves to.")
    if not path.is_file():
        raise CopyError(f"There is no SQLite catalogue at {path}.")
    if Product.objects.exists():
        raise CopyError("The target already holds products. A catalogue moves into an empty database.")
    connections.databases[_SOURCE] = connections.databases["default"] | {
        "ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {}, "CONN_HEALTH_CHECKS": False,
    }  # fmt: skip
    try:
        _same_migrations(path)
        with transaction.atomic():
            models = _models()
            for model in reversed(models):
                _clear(model)
            for model in models:
                _copy(model, progress)
            with connection.cursor() as cursor:
                for statement in connection.ops.sequence_reset_sql(no_style(), models):
                    cursor.execute(statement)
            return [_compared(model) for model in models]
    finally:
        connections[_SOURCE].close()
        del connections[_SOURCE]
        del connections.databases[_SOURCE]


def compare_answers(path: Path) -> tuple[int, int]:
    """Ask both databases the same 100 questions: (answers of the old one that the new one gives too, all of them).

    Raises MoveError when they agree on less than 98 %.
    """
    before, after = _answers_of_database(f"sqlite:///{path}"), sample_answers()
    if before.keys() != after.keys():
        raise CopyError("The two databases do not hold the same features.")
    total = sum(map(len, before.values()))
    same = sum(len(set(before[key]) & set(after[key])) for key in before)
    if same < _AGREEMENT * total:
        raise CopyError(f"The new database gives only {same:,} of {total:,} answers of the old one.")
    return same, total


def sample_answers() -> dict[str, list[int]]:
    """The ten most similar products of up to 100 stored features spread over the catalogue, by the feature's id."""
    ids = list(Feature.objects.order_by("id").values_list("id", flat=True))
    chosen = ids[:: max(1, len(ids) // _QUESTIONS)][:_QUESTIONS]
    answered = {}
    for feature in Feature.objects.filter(id__in=chosen).order_by("id"):
        vector = search_vector(feature.to_features())[None]
        if vector.any():
            hits = index.search(
                vector, _NEIGHBOURS, kind=feature.kind, model=feature.model_name,
                filters=Filters(exclude_product=feature.product_id),
            )  # fmt: skip
            answered[str(feature.pk)] = [hit.product_id for hit in hits]
    return answered


def _answers_of_database(url: str) -> dict[str, list[int]]:
    """``answers()`` of another database, in a process of its own: a process has one database."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "move_to_postgres", "--answers"]
    done = subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CopyError(f"The old database did not answer: {done.stderr.strip()[-500:]}")
    answered: dict[str, list[int]] = json.loads(done.stdout)
    return answered


def _same_migrations(path: Path) -> None:
    sql = "SELECT app, name FROM django_migrations WHERE app <> 'matching_pgvector'"
    applied = []
    for alias in (_SOURCE, "default"):
        with connections[alias].cursor() as cursor:
            cursor.execute(sql)
            applied.append(without_squashed(cursor.fetchall()))
    if applied[0] != applied[1]:
        raise CopyError(f"Run `manage.py migrate` on both databases first: {path} has other migrations.")


def _models() -> list[type[Model]]:
    """Every table's model, also of many-to-many tables. Their foreign keys are checked at the commit only."""
    models = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]
    return [model for model in models if not model._meta.proxy and model._meta.db_table not in _LEFT_BEHIND]


def _clear(model: type[Model]) -> None:
    """Remove what migrate put into the target: its content types, permissions and groups have other keys."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")  # noqa: S608


def _copy(model: type[Model], progress: Callable[[str, int], object]) -> None:
    fields = model._meta.concrete_fields
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608
    for rows in _chunks(model, _SOURCE):
        values = [
            [field.get_db_prep_save(value, connection) for field, value in zip(fields, row, strict=True)]
            for row in rows
        ]
        with connection.cursor() as cursor:
            cursor.executemany(sql, values)
        progress(model._meta.db_table, len(rows))


def _compared(model: type[Model]) -> Table:
    name = model._meta.db_table
    (rows, digest), (arrived, arrived_digest) = _digest(model, _SOURCE), _digest(model, "default")
    if rows != arrived:
        raise CopyError(f"Of {rows:,} rows of {name}, {arrived:,} arrived.")
    if digest != arrived_digest:
        raise CopyError(f"The rows of {name} are not the same after the move.")
    return Table(name, rows, digest)


def _digest(model: type[Model], alias: str) -> tuple[int, str]:
    count, digest = 0, hashlib.sha256()
    for rows in _chunks(model, alias):
        count += len(rows)
        for row in rows:
            for value in row:
                digest.update(_bytes(value) + b"\x1f")
    return count, digest.hexdigest()


def _bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True).encode()
    return repr(value).encode() if not hasattr(value, "isoformat") else value.isoformat().encode()


def _chunks(model: type[Model], alias: str) -> Iterator[Sequence[tuple[Any, ...]]]:
    """All rows by rising key, with the values of the concrete fields."""
    names = [field.attname for field in model._meta.concrete_fields]
    rows = model._base_manager.using(alias).order_by("pk")
    last = None
    while True:
        chunk = list((rows if last is None else rows.filter(pk__gt=last)).values_list("pk", *names)[:_CHUNK])
        if not chunk:
            return
        last = chunk[-1][0]
        yield [row[1:] for row in chunk]
