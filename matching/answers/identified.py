"""Find catalogue products by identifiers, whatever their images look like."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.db.models import QuerySet

from matching.evidence.identifiers import Identifier, Standing
from matching.evidence.records import Record
from products.models import Barcode, Product

MAX_FOUND = 5  # more products with the same number mean that it does not identify one


def find_identified(product: Product, record: Record, without: Collection[str] = ()) -> list[int]:
    """Return the ids of catalogue products with the GTIN, ISBN or MPN of this product, oldest first.

    GTINs count in the field and in the barcodes of images, on both sides. Numbers that shops give themselves are left
    out, and those of the kinds of evidence ``without``. Three short queries on indexes, or none without identifiers.
    """
    catalogue = Product.objects.filter(is_historical=True).exclude(pk=product.pk).order_by("pk")
    numbers = [number for identifier in record.identifiers for number in spellings(identifier)]
    found: list[int] = []
    if numbers and "identifier" not in without:
        found += _ids(catalogue.filter(gtin__in=numbers))
        found += _ids(catalogue.filter(pk__in=owners_of_barcodes(number.zfill(14) for number in numbers)))
    if product.mpn and "part_number" not in without:
        found += _ids(catalogue.filter(mpn=product.mpn))
    return list(dict.fromkeys(found))[:MAX_FOUND]


def owners_of_barcodes(numbers: Iterable[str]) -> QuerySet[Barcode, int]:
    """Return the ids of products with one of these barcodes, which have 14 digits. Removed ones do not count."""
    return Barcode.objects.filter(number__in=set(numbers), removed_at=None).values_list("image__product_id", flat=True)


def _ids(products: QuerySet[Product]) -> list[int]:
    return list(products.values_list("pk", flat=True)[:MAX_FOUND])


def spellings(identifier: Identifier) -> list[str]:
    """Return the lengths in which a telling number can be stored: with 14, 13, 12 or 8 digits."""
    if identifier.standing is not Standing.GLOBAL:
        return []
    number = identifier.number
    return [number[-length:] for length in (14, 13, 12, 8) if not number[:-length].strip("0")]
