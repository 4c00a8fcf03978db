"""What differs between a new product and a candidate."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from products.models import Product


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute of the new product and of the candidate."""

    name: str
    product: str  # "" if the product does not have the attribute
    candidate: str

    @property
    def differs(self) -> bool:
        """Return whether both have the attribute and the values differ."""
        return bool(self.product and self.candidate) and self.product.casefold() != self.candidate.casefold()


def differences(product: Product, candidate: Product) -> list[Difference]:
    """Return the category and all attributes of both, in the new product's order."""
    names = dict.fromkeys([*product.attributes, *candidate.attributes])
    return [
        Difference(_("Category"), product.category, candidate.category),
        *(
            Difference(str(name), _text(product.attributes.get(name)), _text(candidate.attributes.get(name)))
            for name in names
        ),
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value)
