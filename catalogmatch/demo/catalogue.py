"""Load the shipped demo catalogue: ``products.json`` and the files in ``images/`` beside this module."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product

FOLDER = Path(__file__).resolve().parent
IMAGES = FOLDER / "images"


@dataclass(frozen=True, slots=True)
class DemoProduct:
    """A product as ``products.json`` describes it.

    ``images`` are file names in IMAGES, the front first. ``expected_match`` is the SKU of the historical product
    that an arrival shows, or None. The database never learns it: it is there to check the matching.
    """

    sku: str
    name: str
    category: str
    description: str
    attributes: dict[str, str]
    is_historical: bool
    images: list[str]
    expected_match: str | None


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """Number of historical products and of arrivals in the demo, and how many products this call added."""

    historical: int
    arrivals: int
    added: int


def demo_products() -> list[DemoProduct]:
    """Return all products of the demo: the historical ones, then the arrivals."""
    rows = json.loads((FOLDER / "products.json").read_text(encoding="utf-8"))
    return [DemoProduct(**row) for row in rows]


def load_demo(progress: Callable[[int, int], None] | None = None) -> DemoSummary:
    """Add the demo's products that the database lacks. Their images are then pending.

    Each product is saved on its own, so a second call continues where an interrupted one stopped.
    ``progress`` receives the number of products done and the total.
    """
    products = demo_products()
    skus = [product.sku for product in products]
    existing = set(Product.objects.filter(sku__in=skus).values_list("sku", flat=True))
    missing = [product for product in products if product.sku not in existing]
    for done, product in enumerate(missing, start=len(existing) + 1):
        _add(product)
        if progress is not None:
            progress(done, len(products))
    historical = sum(product.is_historical for product in products)
    return DemoSummary(historical, len(products) - historical, len(missing))


def _add(product: DemoProduct) -> None:
    attributes = dict(product.attributes)
    add_product(
        [Upload((IMAGES / name).read_bytes(), name) for name in product.images],
        sku=product.sku,
        name=product.name,
        category=product.category,
        description=product.description,
        is_historical=product.is_historical,
        brand=attributes.pop("brand", ""),
        attributes=attributes,
    )
