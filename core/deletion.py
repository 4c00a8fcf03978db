"""Deleting rows with all that hangs on them, by a few statements, while workers store features and matches of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models.deletion import get_candidate_relations_to_delete

from core.history.recording import record_deletions

Row = TypeVar("Row", bound=models.Model)

BATCH_SIZE = 1_000  # rows that one statement names


def delete_rows(rows: models.QuerySet[Any]) -> tuple[int, dict[str, int]]:
    """Delete rows of a model with a history, and what refers to them; answers what Django's ``delete`` does.

    Django loads whatever hangs on a row to send a signal for each, and a product has dozens of matches. Nothing
    listens for them here: the entry of the row says that they went along, and files are removed after the commit.
    """
    counts: Counter[str] = Counter()
    with transaction.atomic():
        locked = set(_lock(rows))
        # Asked again: who held a lock may have changed what these rows are chosen by, such as a match's verdict.
        ids = iter([pk for pk in rows.order_by().values_list("pk", flat=True) if pk in locked])
        while part := list(islice(ids, BATCH_SIZE)):
            named = rows.model._default_manager.filter(pk__in=part)
            record_deletions(named)
            _delete(named, counts)
    return counts.total(), dict(counts)


class BulkDeletableQuerySet(models.QuerySet[Row]):
    """Rows whose deletion is ``delete`` above."""

    def delete(self) -> tuple[int, dict[str, int]]:
        return delete_rows(self)


class BulkDeletable(models.Model):
    """A row whose own ``delete`` is that of the queryset. Models override the two hooks."""

    objects = BulkDeletableQuerySet.as_manager()

    class Meta:
        abstract = True

    @classmethod
    def rows_to_lock_first(cls, _chosen: models.QuerySet[Any]) -> models.QuerySet[Any] | None:
        """Return the rows of another model that are locked before the chosen rows of this one."""
        return None

    @classmethod
    def before_deletion(cls, rows: models.QuerySet[Any]) -> None:
        """Prepare what goes with these rows, such as removing their files after the commit."""

    def delete(self, *_arguments: Any, **_options: Any) -> tuple[int, dict[str, int]]:
        return delete_rows(type(self)._default_manager.filter(pk=self.pk))


def _delete(rows: models.QuerySet[Any], counts: Counter[str]) -> None:
    """Delete rows after those that refer to them."""
    relations: Iterable[Any] = get_candidate_relations_to_delete(rows.model._meta)
    for relation in relations:
        if relation.on_delete is models.CASCADE:
            others = relation.related_model
            _delete(others._base_manager.filter(**{f"{relation.field.name}__in": rows.values("pk")}), counts)
    if issubclass(rows.model, BulkDeletable):
        rows.model.before_deletion(rows)
    if count := rows._raw_delete(rows.db):  # the statement alone
        counts[rows.model._meta.label] += count


def _lock(rows: models.QuerySet[Any]) -> list[int]:
    """Lock these rows until the end of the transaction. Return their ids.

    Without the locks, features or matches that are stored between two statements would refer to deleted rows.
    Everybody locks in the same order: what ``rows_to_lock_first`` names, then the rows, each by primary key.
    SQLite has no row locks and needs none: the transaction holds its only write lock.
    """
    chosen = rows.order_by().values("pk")
    first = rows.model.rows_to_lock_first(chosen) if issubclass(rows.model, BulkDeletable) else None
    if first is not None:
        _lock_each(first)
    return _lock_each(rows.model._default_manager.filter(pk__in=chosen))


def _lock_each(rows: models.QuerySet[Any]) -> list[int]:
    return list(rows.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))
