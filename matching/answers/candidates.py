"""Find the catalogue products to consider whatever their images look like: by identifiers, numbers and names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from matching.answers.identified import MAX_FOUND, find_identified
from matching.evidence.records import Record
from products.models import Product
from products.text.search import find_numbers, find_same_name

MAX_NUMBERS = 5  # each is a search of its own
# A number that may name a product: some letters and digits, such as "XR-2000" or "A1B2C3". Not a year or a size.
_NUMBER = re.compile(r"(?=\D*\d)[A-Za-z0-9][A-Za-z0-9./_-]{5,39}")


def find_candidates(product: Product, record: Record, without: Collection[str] = ()) -> list[int]:
    """Return the ids of at most MAX_FOUND catalogue products, the surest evidence first.

    These have the product's GTIN, ISBN or MPN, or a number of it in any text, or nearly its name. Leaves out what the
    kinds of evidence ``without`` would find.
    """
    found = find_identified(product, record, without)
    if len(found) < MAX_FOUND:
        if "part_number" not in without:
            found += find_numbers(list(dict.fromkeys(_numbers(product)))[:MAX_NUMBERS], product.pk, MAX_FOUND)
        found += find_same_name(product.name, product.pk, MAX_FOUND)
    return list(dict.fromkeys(found))[:MAX_FOUND]


def _numbers(product: Product) -> Iterator[str]:
    """Return what may be a number of this product: its own, then those in its attributes and its name."""
    texts = [product.mpn, product.sku, *product.attributes.values()]
    for text in texts:
        if isinstance(text, str) and _NUMBER.fullmatch(text.strip()):
            yield text.strip()
    for word in product.name.split():
        if _NUMBER.fullmatch(word) and not word.isdigit():
            yield word
