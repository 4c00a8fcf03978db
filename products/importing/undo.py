"""Take back what an import made and changed. The history says what that is.

What users have changed or decided since stays as it is, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.dispatch import Signal
from django.utils.translation import gettext as _

from core.database.batches import iter_batches
from core.deletion import delete_rows
from core.history.recording import ChangeSource, change_reason
from core.history.shortening import REST, is_shortened, shorten
from products.images import intake
from products.models import Import, Product, ProductImage

BATCH_SIZE = 200  # products deleted in one step, and kept ones that are named
_MISSING = object()  # no attribute of this name

# Receivers return a condition on products on which users have decided something, so that they are not deleted.
products_in_use = Signal()


@dataclass(slots=True)
class Undone:
    """What was taken back so far, and what was kept: (product, reason)."""

    products: int = 0
    images: int = 0
    changed: int = 0
    kept_count: int = 0
    kept: list[tuple[str, str]] = field(default_factory=list)

    def keep(self, product: Product, reason: str) -> None:
        self.kept_count += 1
        if len(self.kept) < BATCH_SIZE:
            self.kept.append((product.sku or str(product), reason))

    def as_json(self) -> dict[str, Any]:
        return {
            "products": self.products,
            "images": self.images,
            "changed": self.changed,
            "kept_count": self.kept_count,
            "kept": self.kept,
        }


def plan(job: Import, shown: int) -> dict[str, Any]:
    """Return what ``undo`` would take back, with the first names of each kind. Changes nothing."""
    created, kept, images, changed = _created(job), _kept(job), _images(job), _changed(job)
    kinds = {"created": created, "kept": kept, "changed": changed}
    found: dict[str, Any] = {}
    for kind, products in kinds.items():
        found[kind] = {"count": products.count(), "first": list(products.order_by("pk")[:shown])}
    found["images"] = {"count": images.count(), "first": list(images.select_related("product").order_by("pk")[:shown])}
    return found


def undo(job: Import, heartbeat: Callable[[dict[str, Any]], None]) -> None:
    """Take the import back in steps of one transaction each. Doing it again continues a stopped one.

    ``heartbeat`` is called between two steps with what was done so far, and may raise to stop.
    """
    undone = Undone(**job.undone) if job.undone else Undone()
    undone.kept, undone.kept_count = [], 0
    job.downloads.all().delete()
    for batch in _batches(_created(job)):
        with transaction.atomic():
            # Once more, because a user may have decided since the batch was chosen.
            _total, deleted = delete_rows(_created(job).filter(pk__in=batch))
            undone.products += deleted.get(Product._meta.label, 0)
        heartbeat(undone.as_json())
    for batch in _batches(_images(job)):
        _total, deleted = delete_rows(ProductImage.objects.filter(pk__in=batch))
        undone.images += deleted.get(ProductImage._meta.label, 0)
        heartbeat(undone.as_json())
    for batch in _batches(_changed(job)):
        for pk in batch:
            _restore(job, pk, undone)
            heartbeat(undone.as_json())
    for product in _kept(job).iterator(chunk_size=BATCH_SIZE):
        undone.keep(product, _("It was changed or decided on after the import."))
    heartbeat(undone.as_json())


def _reason(job: Import) -> str:
    return change_reason(ChangeSource.IMPORT, job.history_reference)


def _entries(job: Import, model: Any, kind: str) -> QuerySet[Any]:
    """Return the entries of this import. The date is there for its index."""
    found: QuerySet[Any] = model.history.filter(
        history_date__gte=job.created_at, history_change_reason=_reason(job), history_type=kind
    )
    return found


def made_by(job: Import) -> QuerySet[Product]:
    """Return the products that an import made and that still exist."""
    return Product.objects.filter(pk__in=_entries(job, Product, "+").values("id"))


def _touched(job: Import) -> Q:
    """Match products on which a user has worked after the import made them."""
    changes = Product.history.filter(id=OuterRef("pk"), history_type="~").exclude(history_change_reason=_reason(job))
    images = ProductImage.history.filter(product_id=OuterRef("pk")).exclude(history_change_reason=_reason(job))
    touched = Q(Exists(changes)) | Q(Exists(images))
    responses: Any = products_in_use.send(sender=Import)
    for _receiver, in_use in responses:
        touched |= in_use
    return touched


def _created(job: Import) -> QuerySet[Product]:
    return made_by(job).exclude(_touched(job))


def _kept(job: Import) -> QuerySet[Product]:
    return made_by(job).filter(_touched(job))


def _images(job: Import) -> QuerySet[ProductImage]:
    """Return the images that products got which existed before, if they have another one."""
    added = _entries(job, ProductImage, "+").values("id")
    others = ProductImage.objects.filter(product=OuterRef("product")).exclude(pk__in=added)
    images = ProductImage.objects.filter(Exists(others), pk__in=added)
    return images.exclude(product__in=_entries(job, Product, "+").values("id"))


def _changed(job: Import) -> QuerySet[Product]:
    changed = Product.objects.filter(pk__in=_entries(job, Product, "~").values("id"))
    return changed.exclude(pk__in=_entries(job, Product, "+").values("id"))


def _batches(rows: QuerySet[Any]) -> Iterator[list[int]]:
    return (list(batch) for batch in iter_batches(list(rows.order_by("pk").values_list("pk", flat=True)), BATCH_SIZE))


def _restore(job: Import, pk: int, undone: Undone) -> None:
    """Give a product the values back that the import changed, except those that were changed since."""
    with transaction.atomic():
        product = Product.objects.select_for_update().filter(pk=pk).first()
        if product is None:
            return
        restored: dict[str, Any] = {}
        reasons: list[str] = []
        for name, (old, new) in _changes(job, product).items():
            current = _values(product).get(name, _MISSING)
            if current == old:
                continue  # taken back before
            if current != new:
                reasons.append(_("%s was changed after the import.") % name[-1])
            elif isinstance(old, str) and is_shortened(old):
                reasons.append(_("%s was too long for the history to keep it whole.") % name[-1])
            else:
                _put(restored, product, name, old)
        if restored:
            intake.change_product(product, restored)
            undone.changed += 1
        if reasons:
            undone.keep(product, " ".join(reasons))


def _changes(job: Import, product: Product) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """Return what the import changed in a product: the value before its first change, and after its last."""
    changes: dict[tuple[str, ...], tuple[Any, Any]] = {}
    before: dict[tuple[str, ...], Any] | None = None
    for entry in Product.history.filter(id=product.pk).order_by("history_id"):
        after = _values(entry)
        if before is not None and entry.history_change_reason == _reason(job):
            for name in before.keys() | after.keys():
                old, new = before.get(name, _MISSING), after.get(name, _MISSING)
                if old != new and name[-1] != REST:
                    changes[name] = (changes[name][0] if name in changes else old, new)
        before = after
    return changes


def _values(row: Any) -> dict[tuple[str, ...], Any]:
    """Return the values of a product or of its entry as the history keeps them, by field and attribute."""
    values: dict[tuple[str, ...], Any] = {}
    for compared in Product.history.model.compared_fields:
        value = shorten(compared, getattr(row, compared.attname))
        if isinstance(value, dict):
            values |= {(compared.name, name): one for name, one in value.items()}
        else:
            values[compared.name,] = value
    return values


def _put(restored: dict[str, Any], product: Product, name: tuple[str, ...], value: Any) -> None:
    if len(name) == 1:
        restored[name[0]] = value
        return
    attributes = restored.setdefault(name[0], dict(getattr(product, name[0])))
    if value is _MISSING:
        attributes.pop(name[1], None)
    else:
        attributes[name[1]] = value
