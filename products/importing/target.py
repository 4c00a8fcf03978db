"""The catalogue as the rows of an import meet it: as it is and changes, or, in a rehearsal, as it would be by then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext as _

from products.images import intake
from products.images.cleaning import CleanImage
from products.images.intake import SkuExistsError
from products.importing.errors import RowError
from products.importing.rows import Row
from products.models import Product, ProductImage
from products.tasks import notifications_suspended


class ImportTarget:
    """Finds the products of rows, and saves what rows bring, waking nobody."""

    def __init__(self) -> None:
        self.found: dict[str, Product | None] = {}
        self.looked_up: set[str] = set()

    def look_up(self, rows: Iterable[Row]) -> None:
        """Find the products of these rows' SKUs with one query; those of the rows before last are forgotten."""
        skus = {row.sku for row in rows if row.sku and not row.problem}  # not every database takes every text
        found = {product.sku: product for product in Product.objects.filter(sku__in=skus)}
        recent = {sku: product for sku, product in self.found.items() if sku in self.looked_up}
        self.found = recent | {sku: found.get(sku) for sku in skus}
        self.looked_up = skus

    def product_of(self, row: Row, sha256: str = "") -> Product | None:
        """The product of the row: of its SKU, without one of its name and this picture, without both of its id."""
        if row.sku:
            if row.sku not in self.found:
                self.found[row.sku] = Product.objects.filter(sku=row.sku).first()
            return self.found[row.sku]
        if sha256:
            return Product.objects.filter(sku="", name=row.name, images__sha256=sha256).first()
        if row.product_id.isascii() and row.product_id.isdecimal() and len(row.product_id) < 19:
            return Product.objects.filter(sku="", pk=int(row.product_id)).first()
        return None

    def has_picture(self, product: Product, sha256: str) -> bool:
        return ProductImage.objects.filter(product=product, sha256=sha256).exists()

    def add(self, row: Row, picture: CleanImage, historical: bool) -> Product | None:
        """The new product; None when somebody else saved its SKU meanwhile."""
        with notifications_suspended():
            try:
                added = intake.add_product(
                    [picture],
                    sku=row.sku,
                    name=row.name,
                    category=row.category,
                    description=row.description,
                    is_historical=historical,
                    attributes=row.attributes,
                )
            except SkuExistsError:
                added = None
        if added is None or not added.created:
            self.found.pop(row.sku, None)
            return None
        self.found[row.sku] = added.product
        return added.product

    def add_view(self, product: Product, picture: CleanImage) -> None:
        with notifications_suspended():
            try:
                intake.add_images(product, [picture])
            except Product.DoesNotExist as error:
                raise self._gone(product) from error

    def fresh(self, product: Product) -> Product:
        """The product as it is in the database, where something is about to be changed."""
        now = Product.objects.filter(pk=product.pk).first()
        if now is None:
            raise self._gone(product)
        if now.sku:
            self.found[now.sku] = now
        return now

    def change(self, product: Product, changed: dict[str, Any]) -> None:
        intake.change_product(product, changed)

    def _gone(self, product: Product) -> RowError:
        self.found.pop(product.sku, None)
        return RowError("not_found", _("The product was deleted in the meantime. Load the row again."))


class DryRunTarget(ImportTarget):
    """Saves nothing, and remembers what the rows before would have saved."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: dict[str, Product] = {}
        self.pictures: dict[tuple[str, str, str], Product] = {}

    def product_of(self, row: Row, sha256: str = "") -> Product | None:
        touched = self.touched.get(row.sku) if row.sku else self.pictures.get(("", row.name, sha256))
        return touched or super().product_of(row, sha256)

    def has_picture(self, product: Product, sha256: str) -> bool:
        known = self._picture(product, sha256) in self.pictures
        return known or (product.pk is not None and super().has_picture(product, sha256))

    def add(self, row: Row, picture: CleanImage, historical: bool) -> Product | None:
        product = Product(
            sku=row.sku,
            name=row.name,
            category=row.category,
            description=row.description,
            is_historical=historical,
            attributes=dict(row.attributes),
        )
        self._touch(product)
        self.add_view(product, picture)
        return product

    def add_view(self, product: Product, picture: CleanImage) -> None:
        self.pictures[self._picture(product, picture.sha256)] = product

    def fresh(self, product: Product) -> Product:
        return product

    def change(self, product: Product, changed: dict[str, Any]) -> None:
        for name, value in changed.items():
            setattr(product, name, value)
        self._touch(product)

    def _touch(self, product: Product) -> None:
        if product.sku:
            self.touched[product.sku] = product

    @staticmethod
    def _picture(product: Product, sha256: str) -> tuple[str, str, str]:
        return product.sku, "" if product.sku else product.name, sha256
