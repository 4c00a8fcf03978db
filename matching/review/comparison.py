"""What differs between a new product and a candidate."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from products.models import Product
from products.prices import format_price


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact about the new product and about the candidate.

    ``identifies``: it tells one article from another, but not what a variant differs in, as a GTIN or a price.
    """

    name: str
    product: str  # "" if the product does not have it
    candidate: str
    identifies: bool = False

    @property
    def differs(self) -> bool:
        """Return whether both have the fact and the values differ."""
        return bool(self.product and self.candidate) and _key(self.product) != _key(self.candidate)


def differences(product: Product, candidate: Product) -> list[Difference]:
    """Return the columns that both can have and all attributes, in the new product's order."""
    names = dict.fromkeys([*product.attributes, *candidate.attributes])
    return [
        Difference(_("Category"), product.category, candidate.category),
        Difference(_("Brand"), product.brand, candidate.brand),
        Difference(_("GTIN"), product.gtin, candidate.gtin, identifies=True),
        Difference(_("MPN"), product.mpn, candidate.mpn, identifies=True),
        Difference(_("Price"), _price(product), _price(candidate), identifies=True),
        *(
            Difference(str(name), _text(product.attributes.get(name)), _text(candidate.attributes.get(name)))
            for name in names
        ),
    ]


def _key(text: str) -> str:
    """Return what is compared. A GTIN with 13 digits is the one with 12 digits and a zero before it."""
    return text.lstrip("0") if text.isdecimal() and len(text) >= 12 else text.casefold()


def _price(product: Product) -> str:
    return f"{format_price(product.price)} {product.currency}".strip() if product.price is not None else ""


def _text(value: object) -> str:
    return "" if value is None else str(value)
