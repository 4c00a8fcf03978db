"""Read the history of several models as one list, each entry with the fields that it changed."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import models
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils.translation import gettext_lazy as _

from core.database.ids import parse_id
from core.history.recording import ChangeSource
from core.history.shortening import REST, is_shortened, shorten

PAGE_SIZE = 100
READ_SIZE = 5  # rows read at once, because old entries can have values of megabytes
MAX_CHANGES = 50  # of one entry, such as attributes; the others are counted


@dataclass(frozen=True, slots=True)
class Change:
    """One field or attribute before and after. "" stands for no value."""

    name: str
    old: str
    new: str

    @property
    def is_shortened(self) -> bool:
        """Whether the history keeps only a part of one of the values."""
        return is_shortened(self.old) or is_shortened(self.new)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a history. ``record`` is its django-simple-history instance."""

    record: Any
    changes: list[Change] = field(default_factory=list)
    omitted: int = 0  # changes beyond MAX_CHANGES

    @property
    def at(self) -> datetime:
        at: datetime = self.record.history_date
        return at

    @property
    def kind(self) -> str:
        """Return the name of the recorded model, such as ``product``."""
        return str(self.record.instance_type._meta.model_name)

    @property
    def source(self) -> str:
        value = (self.record.history_change_reason or "").partition(" ")[0]  # the source, before its reference
        return str(ChangeSource(value).label) if value in ChangeSource.values else ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Entries, newest first.

    ``older`` is the cursor of the next page, or "" on the last page.
    """

    entries: list[Entry]
    older: str


def read_timeline(records: Sequence[QuerySet[Any]], before: str = "", limit: int = PAGE_SIZE) -> Timeline:
    """Return the newest ``limit`` entries of these records, merged by time.

    ``records`` are querysets of historical models. One list must always pass the same ones in the same order.
    ``before`` is the ``older`` of the previous page. It names the last entry seen of each queryset, so that entries
    with equal times are neither left out nor repeated. Takes two queries for each queryset.
    """
    seen = [parse_id(part) for part in before.split("-")]
    last: list[int | None] = seen if len(seen) == len(records) else [None] * len(records)
    each = [_entries(queryset, mark, limit + 1) for queryset, mark in zip(records, last, strict=True)]
    merged = list(islice(heapq.merge(*each, key=lambda entry: entry.at, reverse=True), limit + 1))
    page = merged[:limit]
    for number, entries in enumerate(each):
        shown = [entry.record.history_id for entry in entries if entry in page]
        last[number] = shown[-1] if shown else last[number]
    older = "-".join("" if mark is None else str(mark) for mark in last)
    return Timeline(page, older if len(merged) > limit else "")


def _entries(records: QuerySet[Any], last: int | None, limit: int) -> list[Entry]:
    model = records.model
    earlier = model.objects.filter(id=OuterRef("id"), history_id__lt=OuterRef("history_id"))
    previous = Subquery(earlier.order_by("-history_id").values("history_id")[:1])
    unseen = records if last is None else records.filter(history_id__lt=last)
    newest = unseen.order_by("-history_id").select_related("history_user").annotate(previous_id=previous)
    page = _read(newest[:limit])
    previous_ids = [record.previous_id for record in page if record.previous_id is not None]
    before = {record.history_id: record for record in _read(model.objects.filter(history_id__in=previous_ids))}
    return [_entry(record, before.get(record.previous_id)) for record in page]


def _read(records: QuerySet[Any]) -> list[Any]:
    """Return these records with long values shortened, also those that are stored whole."""
    read = []
    for record in records.iterator(chunk_size=READ_SIZE):
        for compared in record.compared_fields:
            setattr(record, compared.attname, shorten(compared, getattr(record, compared.attname)))
        read.append(record)
    return read


def _entry(record: Any, previous: Any | None) -> Entry:
    changes = _changes(record, previous)
    return Entry(record, changes[:MAX_CHANGES], max(0, len(changes) - MAX_CHANGES))


def _changes(record: Any, previous: Any | None) -> list[Change]:
    """Return how a record differs from the previous one.

    The first is compared with an empty row.
    """
    if record.history_type == "-":
        return []
    changes: list[Change] = []
    for compared in record.compared_fields:
        old, new = getattr(previous or compared.model(), compared.attname), getattr(record, compared.attname)
        if old != new:
            changes += _change(compared, old, new)
    return changes


def _change(changed: models.Field[Any, Any], old: Any, new: Any) -> list[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in dict.fromkeys([*old, *new]) if not _may_be_in_rest(name, old, new)]
        return [
            Change(str(name), _text(old.get(name)), _text(new.get(name)))
            for name in names
            if old.get(name) != new.get(name)
        ]
    labels: Mapping[Any, Any] = dict(changed.flatchoices)
    old, new = (labels.get(value, value) if labels else value for value in (old, new))
    return [Change(str(changed.verbose_name), _text(old), _text(new))]


def _may_be_in_rest(name: Any, old: dict[Any, Any], new: dict[Any, Any]) -> bool:
    """Whether one side lacks an attribute that its shortened rest may have."""
    return (name not in old and REST in old and name != REST) or (name not in new and REST in new and name != REST)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(_("yes") if value else _("no"))
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return ", ".join(map(str, value))
    if isinstance(value, Decimal) and value == round(value, 2):
        return f"{value:.2f}"  # without the zeros that only the column has
    return "" if value is None else str(value)
