"""Iterate over primary keys in batches so that memory and transactions stay small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import QuerySet

BATCH_SIZE = 2000


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
