"""How much history is kept: measure it and delete the oldest entries.

The newest entry of each existing row stays, however old it is. The next change is compared with it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum
from django.dispatch import Signal
from django.utils import timezone

from core.column_sizes import text_bytes

BATCH_SIZE = 1_000
ENTRY_BYTES = 140  # of an entry of short texts, with its indexes
# A history that takes more than this share of its quota is pruned to the other share.
PRUNE_FROM, PRUNE_TO = 0.9, 0.8

pruned = Signal()  # sent with ``until``: everything recorded up to this time is forgotten


def history_models() -> list[Any]:
    """Return the models of all history tables."""
    histories = (getattr(getattr(model, "history", None), "model", None) for model in apps.get_models())
    return [history for history in histories if hasattr(history, "compared_fields")]


def history_bytes() -> int:
    """Return about how much all entries take. Reads every entry: a second for a million of them."""
    return sum(_bytes_of(history) for history in history_models())


def prune() -> int:
    """Delete the entries that CATALOGMATCH_HISTORY_DAYS and the quota do not keep. Return how many."""
    deleted = 0
    if settings.HISTORY_DAYS:
        deleted += _delete_until(timezone.now() - timedelta(days=settings.HISTORY_DAYS))
    quota = settings.QUOTA_BYTES["history"]
    if quota and (taken := history_bytes()) > PRUNE_FROM * quota:
        until = _date_until_which_entries_take(taken - int(PRUNE_TO * quota))
        deleted += _delete_until(until) if until else 0
    return deleted


def _bytes_of(history: Any) -> int:
    taken: int | None = history.objects.aggregate(taken=Sum(_entry_bytes(history)))["taken"]
    return taken or 0


def _entry_bytes(history: Any) -> Any:
    texts = (models.CharField, models.TextField, models.JSONField)
    return text_bytes([field.attname for field in history.compared_fields if isinstance(field, texts)], ENTRY_BYTES)


def _date_until_which_entries_take(size: int) -> datetime | None:
    """Return the date up to which deletable entries take this many bytes, or the date of the newest one."""
    each: list[Iterator[tuple[datetime, int]]] = [
        _deletable(history)
        .order_by("history_date")
        .annotate(taken=_entry_bytes(history))
        .values_list("history_date", "taken")
        .iterator(chunk_size=BATCH_SIZE)
        for history in history_models()
    ]
    until = None
    for date, taken in heapq.merge(*each):
        until = date
        size -= taken
        if size <= 0:
            break
    return until


def _delete_until(until: datetime) -> int:
    """Delete the deletable entries up to a date, in short transactions."""
    deleted = 0
    for history in history_models():
        oldest = _deletable(history).filter(history_date__lte=until).order_by("history_id")
        while ids := list(oldest.values_list("history_id", flat=True)[:BATCH_SIZE]):
            deleted += history.objects.filter(history_id__in=ids)._raw_delete(history.objects.db)
    pruned.send(None, until=until)
    return deleted


def _deletable(history: Any) -> QuerySet[Any]:
    """Return the entries that are not the newest one of an existing row."""
    later = history.objects.filter(id=OuterRef("id"), history_id__gt=OuterRef("history_id"))
    row = history.instance_type._base_manager.filter(pk=OuterRef("id"))
    entries: QuerySet[Any] = history.objects.filter(Q(Exists(later)) | ~Q(Exists(row)))
    return entries
