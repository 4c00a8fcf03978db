"""Delete many rows and everything that refers to them with few SQL statements, while workers write to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models.deletion import get_candidate_relations_to_delete
from django.dispatch import Signal

from core.history.recording import record_deletions

Row = TypeVar("Row", bound=models.Model)

BATCH_SIZE = 1_000  # rows in one statement

# Sent with ``rows``, a queryset of the sender, in the transaction that deletes them, while all their relations exist.
about_to_delete = Signal()


def delete_rows(rows: models.QuerySet[Any]) -> tuple[int, dict[str, int]]:
    """Delete rows of a model with an audit trail, and everything that refers to them.

    Returns what Django's ``delete`` returns. Django loads every related row to send a signal for each, and a product
    has dozens of matches. Here ``about_to_delete`` is sent once instead. The history records the row itself, and its
    files are removed after the commit.
    """
    counts: Counter[str] = Counter()
    with transaction.atomic():
        locked = set(_lock(rows))
        # Select again: the rows may have changed before the lock, such as the verdict of a match.
        ids = iter([pk for pk in rows.order_by().values_list("pk", flat=True) if pk in locked])
        while batch := list(islice(ids, BATCH_SIZE)):
            selected = rows.model._default_manager.filter(pk__in=batch)
            record_deletions(selected)
            about_to_delete.send(rows.model, rows=selected)
            _delete(selected, counts)
    return counts.total(), dict(counts)


class BulkDeletableQuerySet(models.QuerySet[Row]):
    """A queryset that deletes with ``delete_rows``."""

    def delete(self) -> tuple[int, dict[str, int]]:
        return delete_rows(self)


class BulkDeletable(models.Model):
    """Base of models that are deleted with ``delete_rows``.

    Models override the two hooks.
    """

    objects = BulkDeletableQuerySet.as_manager()

    class Meta:
        abstract = True

    @classmethod
    def rows_to_lock_first(cls, _chosen: models.QuerySet[Any]) -> models.QuerySet[Any] | None:
        """Return rows of another model that are locked before the chosen rows of this one."""
        return None

    @classmethod
    def before_deletion(cls, rows: models.QuerySet[Any]) -> None:
        """Prepare the deletion, such as removing the rows' files after the commit."""

    def delete(self, *_arguments: Any, **_options: Any) -> tuple[int, dict[str, int]]:
        return delete_rows(type(self)._default_manager.filter(pk=self.pk))


def _delete(rows: models.QuerySet[Any], counts: Counter[str]) -> None:
    """Delete rows after those that refer to them."""
    relations: Iterable[Any] = get_candidate_relations_to_delete(rows.model._meta)
    for relation in relations:
        if relation.on_delete is models.CASCADE:
            related = relation.related_model
            _delete(related._base_manager.filter(**{f"{relation.field.name}__in": rows.values("pk")}), counts)
    if issubclass(rows.model, BulkDeletable):
        rows.model.before_deletion(rows)
    if count := rows._raw_delete(rows.db):  # one statement, without signals
        counts[rows.model._meta.label] += count


def _lock(rows: models.QuerySet[Any]) -> list[int]:
    """Lock these rows until the end of the transaction. Return their ids.

    Without the locks, features or matches that are stored between two statements would refer to deleted rows.
    Workers and deletions lock in the same order: what ``rows_to_lock_first`` names, then the rows, each by primary key.
    SQLite has no row locks and needs none: the transaction holds its only write lock.
    """
    chosen = rows.order_by().values("pk")
    first = rows.model.rows_to_lock_first(chosen) if issubclass(rows.model, BulkDeletable) else None
    if first is not None:
        _lock_each(first)
    return _lock_each(rows.model._default_manager.filter(pk__in=chosen))


def _lock_each(rows: models.QuerySet[Any]) -> list[int]:
    return list(rows.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))
