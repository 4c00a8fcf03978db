"""History of products, images and matches in words: who did what to which product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _

from core.admin.history import HistoryAdmin
from core.history.timeline import Entry
from products.models import Product

ONE_ACT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """An act in words. ``subject`` names its product; ``product_id`` is None if that is deleted.

    ``also``: what else the same act did, such as adding the images of a new product.
    """

    entry: Entry
    sentence: str
    subject: str
    product_id: int | None
    also: list[str] = field(default_factory=list)


def history_lines(entries: Sequence[Entry]) -> list[HistoryLine]:
    """Return the entries in words, with the names of their products. Two queries in all."""
    ids_by_entry = [(entry, _product_ids(entry.record, entry.kind)) for entry in entries]
    names, existing = product_names({pk for _entry, ids in ids_by_entry for pk in ids})
    lines: list[HistoryLine] = []
    for entry, ids in ids_by_entry:
        subject = " → ".join(names.get(pk, f"#{pk}") for pk in ids)
        line = HistoryLine(entry, _sentence(entry), subject, ids[0] if ids[0] in existing else None)
        before = lines[-1] if lines else None
        if before is None or not _is_one_act(before, line, ids):
            lines.append(line)
        elif line.entry.kind == "product":  # what happened to the product says more than its images
            lines[-1] = replace(line, also=[before.sentence, *before.also])
        else:
            before.also.append(line.sentence)
    return lines


def _is_one_act(before: HistoryLine, line: HistoryLine, ids: Sequence[int]) -> bool:
    """Return whether an entry belongs to the one above it: images that come and go with their product, or together."""
    kinds = (before.entry.kind, line.entry.kind)
    images = before.entry.kind == "productimage"
    return (
        ((images and line.entry.kind in ("product", "productimage")) or kinds == ("product", "productimage"))
        and _product_ids(before.entry.record, before.entry.kind) == ids
        and before.entry.record.history_user_id == line.entry.record.history_user_id
        and before.entry.source == line.entry.source
        and abs(before.entry.at - line.entry.at) <= ONE_ACT
    )


class CatalogueHistoryAdmin(HistoryAdmin):
    describe_entries = staticmethod(history_lines)


def product_names(ids: Iterable[int]) -> tuple[dict[int, str], set[int]]:
    """Return the current or last name of these products by id, and the ids that still exist."""
    all_ids = set(ids)
    current = {product.pk: str(product) for product in Product.objects.filter(pk__in=all_ids).only("sku", "name")}
    past = Product.history.filter(id__in=all_ids - current.keys()).order_by("history_id")
    deleted = {pk: name or sku or f"#{pk}" for pk, name, sku in past.values_list("id", "name", "sku")}
    return current | deleted, set(current)


def _product_ids(record: Any, kind: str) -> list[int]:
    match kind:
        case "product":
            return [record.id]
        case "productimage":
            return [record.product_id]
        case "decision":
            return [record.product_id, *record.candidates]
        case _:
            return [record.product_id, record.candidate_id]


def _sentence(entry: Entry) -> str:
    record = entry.record
    match entry.kind, record.history_type:
        case "product", "+":
            return _("Product added")
        case "product", "~":
            return _("Product changed")
        case "product", _other:
            if (record.history_change_reason or "").partition(" ")[2].startswith("merge "):
                return _("Product merged into #%(id)s") % {"id": record.history_change_reason.rpartition(" ")[2]}
            return _("Product deleted")
        case "productimage", "+":
            return _("Image added: %(name)s") % {"name": record.original_name or f"#{record.id}"}
        case "productimage", _other:
            return _("Image removed: %(name)s") % {"name": record.original_name or f"#{record.id}"}
        case "decision", "-":
            return _("Decision undone")
        case "decision", _other:
            return _("Decision: %(kind)s") % {"kind": record.get_kind_display()}
        case _match, "-":
            return _("Match deleted (score %(score).1f)") % {"score": record.similarity_score}
        case _match, _other:
            return _("Verdict (score %(score).1f)") % {"score": record.similarity_score}
