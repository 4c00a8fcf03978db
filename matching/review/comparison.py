"""What differs between a new product and a candidate."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from matching.evidence.quantities import pack_counts, quantities, sizes
from matching.evidence.records import MAX_NAME
from matching.evidence.words import normalise
from products.models import Product
from products.prices import format_price

DIMENSIONS = {
    "volume": gettext_lazy("Volume"), "weight": gettext_lazy("Weight"), "length": gettext_lazy("Length"),
    "memory": gettext_lazy("Memory"), "power": gettext_lazy("Power"), "voltage": gettext_lazy("Voltage"),
    "charge": gettext_lazy("Charge"), "frequency": gettext_lazy("Frequency"),
    "resolution": gettext_lazy("Resolution"), "pages": gettext_lazy("Pages"), "users": gettext_lazy("Users"),
    "speed": gettext_lazy("Speed"), "pieces": gettext_lazy("Pieces"), "size": gettext_lazy("Size"),
}  # fmt: skip


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
        *_quantities(product.name, candidate.name),
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


def _quantities(name: str, other: str) -> list[Difference]:
    """Return the quantities that both names have, such as 500 ml and 1 l."""
    texts = [normalise(text[:MAX_NAME]) for text in (name, other)]
    ours, theirs = (_by_dimension(text) for text in texts)
    found = [
        Difference(str(DIMENSIONS.get(dimension, dimension)), ours[dimension], theirs[dimension])
        for dimension in ours
        if dimension in theirs
    ]
    return [difference for difference in found if difference.differs]


def _by_dimension(text: str) -> dict[str, str]:
    """Return the quantities of a normalised text as people read them, by dimension, the smallest first."""
    found: dict[str, str] = {}
    for quantity in sorted(quantities(text)):
        shown = f"{found[quantity.dimension]}, {quantity}" if quantity.dimension in found else str(quantity)
        found[quantity.dimension] = shown
    for dimension, values in (("pieces", sorted(pack_counts(text))), ("size", sorted(sizes(text)))):
        if values:
            found[dimension] = ", ".join(map(str, values)).upper()
    return found


def _key(text: str) -> str:
    """Return what is compared. A GTIN with 13 digits is the one with 12 digits and a zero before it."""
    return text.lstrip("0") if text.isdecimal() and len(text) >= 12 else text.casefold()


def _price(product: Product) -> str:
    return f"{format_price(product.price)} {product.currency}".strip() if product.price is not None else ""


def _text(value: object) -> str:
    return "" if value is None else str(value)
