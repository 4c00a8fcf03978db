"""Deleting products and pictures while workers store features and matches of them."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models, transaction

Row = TypeVar("Row", bound=models.Model)


class LockedDeletion(models.QuerySet[Row]):
    """Deletes rows under a lock that is taken before Django collects what hangs on them.

    Without it, features or matches that are stored between the two refer to nothing, and the deletion fails. The
    order of the locks is everybody's: pictures before products, each by their number.
    """

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            _lock(self)
            return super().delete()


class DeletedUnderLock(models.Model):
    """A row whose own ``delete`` is that of the queryset."""

    objects = LockedDeletion.as_manager()

    class Meta:
        abstract = True

    def delete(self, *arguments: Any, **options: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            _lock(type(self)._default_manager.filter(pk=self.pk))
            return super().delete(*arguments, **options)


def _lock(rows: models.QuerySet[Any]) -> None:
    """Lock these pictures, or these products and their pictures, until the end of the transaction.

    SQLite has no locks of rows and needs none, since the transaction holds its only one.
    """
    from products.models import Product, ProductImage

    chosen = rows.order_by().values("pk")
    if rows.model is Product:
        _lock_each(ProductImage.objects.filter(product__in=chosen))
    _lock_each(rows.model._default_manager.filter(pk__in=chosen))


def _lock_each(rows: models.QuerySet[Any]) -> None:
    list(rows.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))
