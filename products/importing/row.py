"""One row of an import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from products.prices import parse_price
from products.validation import TEXT_FIELDS, normalize_field


@dataclass(frozen=True, slots=True)
class Row:
    """One row: images of a product, or changes to a product.

    ``number``: the number in a spreadsheet (the header is row 1), or the position in the list of files.
    ``images``: references to its images as the table has them, in order: a file name, a path or an address.
    ``folder``: the folder that ``images`` are relative to. ``is_historical``: None if the row does not say, then
    ``ImportSource.historical`` decides. ``category_from_path``: the category is the image's folder, so the same
    SKU in another folder is another product. ``problem``: why the row cannot be imported, known before its images
    are read. ``passed_over``: why the row is left alone without being an error, such as the texts of another store
    view. ``notes``: what of the row is not imported. ``raw``: the cells as they came. ``part``: which of the images of
    a row this is, once ``importer.one_per_image`` has made a row of each.
    """

    number: int
    images: tuple[str, ...] = ()
    folder: str = ""
    sku: str = ""
    name: str = ""
    category: str = ""
    description: str = ""
    gtin: str = ""
    mpn: str = ""
    brand: str = ""
    price: str = ""
    currency: str = ""
    is_historical: bool | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    product_id: str = ""
    category_from_path: bool = False
    problem: str = ""
    passed_over: str = ""
    notes: tuple[str, ...] = ()
    raw: Sequence[str] = ()
    part: int = 0

    @property
    def image(self) -> str:
        """Return the reference to its first image, or ""."""
        return self.images[0] if self.images else ""

    @property
    def label(self) -> str:
        """Return the text by which users recognise the row."""
        return self.sku or self.name or self.image

    def fields(self) -> dict[str, Any]:
        """Return the product's texts and price. A price that names its currency also gives the currency.

        Raises ValidationError, by field.
        """
        texts = {name: normalize_field(name, getattr(self, name)) for name in TEXT_FIELDS}
        if not self.price:
            return texts | {"price": None}
        try:
            price = parse_price(self.price)
        except ValidationError as error:
            raise ValidationError({"price": error}) from error
        if price.currency and texts["currency"] not in ("", price.currency):
            text = _("The price is in %(price)s, and the currency is %(currency)s.")
            raise ValidationError({"price": text % {"price": price.currency, "currency": texts["currency"]}})
        return texts | {"price": price.amount, "currency": texts["currency"] or price.currency}
