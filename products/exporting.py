"""Tables of what the catalogue holds, for spreadsheet programs; those of products can be imported again unchanged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from core.batches import iter_batches
from core.spreadsheets.writer import XLSX_MAX_CELL_LENGTH, XLSX_MAX_ROWS, Cell, csv_bytes, xlsx_bytes
from products.importing.diff import as_text
from products.importing.rows import ID_COLUMN, attribute_column
from products.models import Product, ProductImage
from products.queue.claims import aggregate_state

MAX_ATTRIBUTES = 1000  # different ones in one table
FIELDS = ("sku", "name", "category", "description", "is_historical")

Table = Iterator[Sequence[Cell]]


class ExportError(Exception):
    """A table that cannot be made; the text says what to do."""

    code = "export_impossible"


FORMATS: dict[str, tuple[str, Callable[[Iterable[Iterable[Cell]]], Iterator[bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", csv_bytes),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", xlsx_bytes),
}


def products_table(ids: Sequence[int]) -> Table:
    """The products of these ids in this order, a header first: fields, a column for each attribute, and notes.

    Read step by step, so whatever is deleted meanwhile is left out. Raises ExportError before the first row.
    """
    keys = _attribute_keys(ids)
    header = [*FIELDS, *map(attribute_column, keys), ID_COLUMN, "(state)", "(pictures)", "(created)", "(updated)"]
    return _products(ids, keys, header)


def _products(ids: Sequence[int], keys: Sequence[str], header: list[str]) -> Table:
    yield header
    for step in iter_batches(ids):
        states: dict[int, list[str]] = defaultdict(list)
        for product_id, state in ProductImage.objects.filter(product__in=step).values_list("product", "state"):
            states[product_id].append(state)
        found = Product.objects.in_bulk(step)
        for product in (found[pk] for pk in step if pk in found):
            yield [
                *(as_text(getattr(product, name)) for name in FIELDS),
                *(as_text(product.attributes.get(key)) for key in keys),
                product.pk,
                aggregate_state(states[product.pk]),
                len(states[product.pk]),
                format_time(product.created_at),
                format_time(product.updated_at),
            ]


def check_xlsx_limits(rows: int, longest: int) -> None:
    """Raises ExportError where a workbook would cut something off: by its rows, or by the longest text of a cell."""
    if rows >= XLSX_MAX_ROWS:
        text = _("A workbook holds %(limit)s rows, and these are %(rows)s. Export them as CSV.")
        raise ExportError(text % {"limit": f"{XLSX_MAX_ROWS:,}", "rows": f"{rows:,}"})
    if longest >= XLSX_MAX_CELL_LENGTH:
        text = _("One of the texts has %(length)s characters, and a cell of a workbook holds %(limit)s. Export as CSV.")
        raise ExportError(text % {"length": f"{longest:,}", "limit": f"{XLSX_MAX_CELL_LENGTH:,}"})


def longest_text(ids: Sequence[int]) -> int:
    """Characters of the longest text of these products."""
    longest = 0
    for step in iter_batches(ids):
        for description, attributes in Product.objects.filter(pk__in=step).values_list("description", "attributes"):
            texts = [description, *(as_text(value) for value in attributes.values())]
            longest = max(longest, *map(len, texts))
    return longest


def format_time(at: datetime | None) -> str:
    """A time with its offset, in the server's time zone, to the second."""
    return "" if at is None else timezone.localtime(at).isoformat(timespec="seconds")


def _attribute_keys(ids: Sequence[int]) -> list[str]:
    keys: dict[str, Any] = {}
    for step in iter_batches(ids):
        for attributes in Product.objects.filter(pk__in=step).values_list("attributes", flat=True):
            keys |= dict.fromkeys(attributes)
    if len(keys) > MAX_ATTRIBUTES:
        text = _(
            "These products have %(count)s different attributes, and a table can have %(limit)s of them. Narrow the "
            "list down."
        )
        raise ExportError(text % {"count": f"{len(keys):,}", "limit": f"{MAX_ATTRIBUTES:,}"})
    return sorted(keys)
