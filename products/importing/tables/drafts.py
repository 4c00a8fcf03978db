"""A row of a table while it is put together from its cells and from other rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from products.importing.tables.identity import Key

_DEFAULT_OPTION = "Default Title"  # of a Shopify product without variants


@dataclass(slots=True)
class Draft:
    """A row while it is put together.

    ``values``: the table's cells, by which rows find what they belong to. ``options``: names and values of
    attributes; a variant's names can be in the first row of its product.
    """

    number: int
    values: Sequence[str] = ()
    key: Key = field(default_factory=Key)
    texts: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    options: list[tuple[str, str]] = field(default_factory=list)
    is_historical: bool | None = None
    product_id: str = ""
    problem: str = ""
    passed_over: str = ""
    notes: list[str] = field(default_factory=list)
    raw: Sequence[str] = ()

    def read_options(self, first: Draft | None = None) -> None:
        """Write the options as attributes, with the names of the product's first row."""
        for index, (name, value) in enumerate(self.options):
            if not name and first is not None and index < len(first.options):
                name = first.options[index][0]
            if name and value and value != _DEFAULT_OPTION:
                self.attributes[name] = value

    def inherit(self, other: Draft, fields: Collection[str] = ("name", "category", "description", "brand")) -> None:
        """Fill what is empty with what another row says of the same product."""
        for name in fields:
            self.texts[name] = self.texts.get(name) or other.texts.get(name, "")
        self.attributes = {**other.attributes, **self.attributes}
        if self.is_historical is None:
            self.is_historical = other.is_historical

    def reduce_to_images(self, key: Key) -> None:
        """Leave only the images, as those of the product with this key."""
        self.key, self.texts, self.attributes, self.is_historical = key, {}, {}, None
