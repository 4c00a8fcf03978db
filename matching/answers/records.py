"""Parse what the catalogue knows about products for the comparison of their texts, and remember it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from core.database.batches import iter_batches
from matching.evidence.records import Record, parse_record
from matching.evidence.statistics import CatalogueStatistics
from products.images import barcodes
from products.models import Product

REMEMBERED = 5_000  # records; one of a product with long texts takes some 20 kB
# Rarities of words hardly change with more, and memory stays bounded for a catalogue of any size.
MAX_COUNTED = 50_000

_FIELDS = (
    "name", "brand", "description", "category", "attributes", "gtin", "mpn", "price", "currency",
)  # fmt: skip
# With the time of the product's last change and its barcodes, which change without it.
_remembered: dict[int, tuple[datetime, tuple[str, ...], Record]] = {}


def record_of(product: Product) -> Record:
    """Parse a product with the barcodes of its images. Takes about 0.1 ms and one query."""
    return _parse(product, barcodes.numbers_of([product.pk]).get(product.pk, ()))


def _parse(product: Product, numbers: tuple[str, ...]) -> Record:
    return parse_record(**{name: getattr(product, name) for name in _FIELDS}, barcodes=numbers)


def records_of(products: Iterable[Product]) -> dict[int, Record]:
    """Return the records of products by id. One query for barcodes, and one for products that are new or changed."""
    found: dict[int, Record] = {}
    missing: list[int] = []
    products = list(products)
    numbers = barcodes.numbers_of(product.pk for product in products)
    for product in products:
        known = _remembered.get(product.pk)
        if known is not None and known[:2] == (product.updated_at, numbers.get(product.pk, ())):
            found[product.pk] = known[2]
        else:
            missing.append(product.pk)
    if missing:
        for product in Product.objects.filter(pk__in=missing).only(*_FIELDS, "updated_at"):
            of_product = numbers.get(product.pk, ())
            found[product.pk] = _parse(product, of_product)
            _remembered[product.pk] = (product.updated_at, of_product, found[product.pk])
        while len(_remembered) > REMEMBERED:
            _remembered.pop(next(iter(_remembered)), None)
    return found


def is_silent(record: Record) -> bool:
    """Return whether nothing is known about a product that could be compared."""
    known = (record.words, record.identifiers, record.mpn, record.attributes, record.description, record.brand)
    return not any((*known, record.category, record.price))


def count_catalogue() -> CatalogueStatistics:
    """Count the words, identifiers and attributes of the catalogue, or of some of its products if it is large."""
    ids = list(Product.objects.filter(is_historical=True).order_by("pk").values_list("pk", flat=True))
    step = max(1, -(-len(ids) // MAX_COUNTED))
    return CatalogueStatistics.of(_records(ids[::step]))


def _records(ids: list[int]) -> Iterator[Record]:
    for batch in iter_batches(ids):
        numbers = barcodes.numbers_of(batch)
        for product in Product.objects.filter(pk__in=batch).only(*_FIELDS).order_by().iterator(chunk_size=100):
            yield _parse(product, numbers.get(product.pk, ()))
