"""Export products as tables for spreadsheets, which an import reads unchanged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _

from core.database.batches import iter_batches, iter_batches_by_bytes
from core.spreadsheets.export import ExportError, ExportTable, format_time
from products.images import barcodes
from products.importing.diff import as_text
from products.importing.tables.columns import ID_COLUMN, attribute_column
from products.models import Product, ProductImage, SameAs
from products.models.catalogue import printed
from products.queue.claims import aggregate_state

MAX_ATTRIBUTES = 1000  # different attributes, each a column
LARGE_COLUMNS = ("description", "attributes")  # all others have at most some hundred characters
READ_SIZE = 20  # rows read at once
FIELDS = ("sku", "name", "category", "description", "is_historical", "gtin", "mpn", "brand", "price", "currency")


def products_table(ids: Sequence[int]) -> ExportTable:
    """Return the products with these ids as rows below a header, in this order.

    The columns are fields, one for each attribute, and notes. Rows are read in batches, so products that are deleted
    before their batch are left out. Raises ExportError before the first row.
    """
    keys = _attribute_keys(ids)
    facts = ["(state)", "(images)", "(barcodes)", "(same as)", "(created)", "(updated)"]
    header = [*FIELDS, *map(attribute_column, keys), ID_COLUMN, *facts]
    return _products(ids, keys, header)


def _products(ids: Sequence[int], keys: Sequence[str], header: list[str]) -> ExportTable:
    yield header
    for batch in iter_batches_by_bytes(Product.objects.all(), ids, LARGE_COLUMNS):
        states: dict[int, list[str]] = defaultdict(list)
        for product_id, state in ProductImage.objects.filter(product__in=batch).values_list("product", "state"):
            states[product_id].append(state)
        links: dict[int, list[str]] = defaultdict(list)
        of_batch = SameAs.objects.filter(product__in=batch).order_by("other_id")
        for product_id, other_id, sku in of_batch.values_list("product", "other", "other__sku"):
            links[product_id].append(sku or f"#{other_id}")
        products = Product.objects.in_bulk(batch)
        numbers = barcodes.numbers_of(batch)
        for product in (products[pk] for pk in batch if pk in products):
            yield [
                *(as_text(getattr(product, name)) for name in FIELDS),
                *(as_text(product.attributes.get(key)) for key in keys),
                product.pk,
                aggregate_state(states[product.pk]),
                len(states[product.pk]),
                " ".join(printed(number) for number in numbers.get(product.pk, ())),
                ", ".join(links[product.pk]),
                format_time(product.created_at),
                format_time(product.updated_at),
            ]


def longest_text(ids: Sequence[int]) -> int:
    """Return the number of characters of the longest text of these products."""
    longest = 0
    for batch in iter_batches(ids):
        texts_of_batch = Product.objects.filter(pk__in=batch).order_by().values_list("description", "attributes")
        for description, attributes in texts_of_batch.iterator(chunk_size=READ_SIZE):
            texts = [description, *(as_text(value) for value in attributes.values())]
            longest = max(longest, *map(len, texts))
    return longest


def _attribute_keys(ids: Sequence[int]) -> list[str]:
    keys: dict[str, Any] = {}
    for batch in iter_batches(ids):
        of_batch = Product.objects.filter(pk__in=batch).order_by().values_list("attributes", flat=True)
        for attributes in of_batch.iterator(chunk_size=READ_SIZE):
            keys |= dict.fromkeys(attributes)
    if len(keys) > MAX_ATTRIBUTES:
        text = _(
            "These products have %(count)s different attributes, and a table can have %(limit)s of them. Narrow the "
            "list down."
        )
        raise ExportError(text % {"count": f"{len(keys):,}", "limit": f"{MAX_ATTRIBUTES:,}"})
    return sorted(keys)
