"""Iterate over primary keys in batches so that memory and transactions stay small."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.models import QuerySet

from core.column_sizes import text_bytes

BATCH_SIZE = 2000
# A batch of rows that may be large. Parsed JSON takes about ten times its size in memory.
BATCH_BYTES, BATCH_ROWS = 2**20, 500


def iter_pk_batches(rows: QuerySet[Any], size: int = BATCH_SIZE) -> Iterator[list[int]]:
    """Yield the primary keys of these rows in ascending order, ``size`` at a time.

    Each batch is a query of its own, so the caller may change or delete the rows of the last one.
    """
    last = 0
    while ids := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:size]):
        yield ids
        last = ids[-1]


def iter_batches(ids: Sequence[int], size: int = BATCH_SIZE) -> Iterator[Sequence[int]]:
    """Yield these keys in order, ``size`` at a time, as many as a query can name."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def iter_batches_by_bytes(rows: QuerySet[Any], ids: Sequence[int], columns: Sequence[str]) -> Iterator[Sequence[int]]:
    """Yield these keys in order, as ``split_by_bytes`` does. Keys without a row are left out."""
    for part in iter_batches(ids, BATCH_ROWS):
        sizes: dict[int, int] = dict(rows.filter(pk__in=part).order_by().values_list("pk", text_bytes(columns)))
        yield from split_by_bytes((pk, sizes[pk]) for pk in part if pk in sizes)


def split_by_bytes(sizes: Iterable[tuple[int, int]]) -> Iterator[Sequence[int]]:
    """Yield keys in order, as many at a time as have BATCH_BYTES together, and at least one.

    ``sizes`` are keys with the size of their large columns.
    """
    batch: list[int] = []
    taken = 0
    for pk, size in sizes:
        if batch and taken + size > BATCH_BYTES:
            yield batch
            batch, taken = [], 0
        batch.append(pk)
        taken += size
    if batch:
        yield batch
