"""Where imported rows are saved: the catalogue, or memory for a dry run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from core.database.ids import parse_id
from products import quotas
from products.downloads import queue
from products.images import intake
from products.images.cleaning import CleanImage
from products.images.intake import SkuExistsError
from products.images.storage import StagedFiles
from products.importing.errors import RowError
from products.importing.row import Row
from products.merges import product_with_sku, products_with_skus
from products.models import ImageDownload, Product, ProductImage
from products.tasks import notifications_suspended


class ImportTarget:
    """Find and save the products of rows, without notifying workers."""

    staged: StagedFiles | None = None

    def __init__(self) -> None:
        self.by_sku: dict[str, Product | None] = {}
        self.newest_skus: set[str] = set()

    def look_up(self, rows: Iterable[Row]) -> None:
        """Find the products of these rows' SKUs with one query.

        Forget all products but those of this call and the last one.
        """
        skus = {row.sku for row in rows if row.sku and not row.problem}  # PostgreSQL rejects NUL characters
        products = products_with_skus(skus)
        recent = {sku: product for sku, product in self.by_sku.items() if sku in self.newest_skus}
        self.by_sku = recent | {sku: products.get(sku) for sku in skus}
        self.newest_skus = skus

    def find_product(self, row: Row, sha256: str = "") -> Product | None:
        """Return the row's product by SKU, else by name and image, else by id."""
        if row.sku:
            if row.sku not in self.by_sku:
                self.by_sku[row.sku] = product_with_sku(row.sku)
            return self.by_sku[row.sku]
        if sha256:
            return Product.objects.filter(sku="", name=row.name, images__sha256=sha256).first()
        if (row_id := parse_id(row.product_id)) is not None:
            return Product.objects.filter(sku="", pk=row_id).first()
        return None

    def newest_of_name(self, row: Row) -> Product | None:
        """Return the newest product without SKU of the row's name, which an import made that stopped in this row."""
        return Product.objects.filter(sku="", name=row.name).order_by("-pk").first() if row.name else None

    @contextmanager
    def stage(self, images: Iterable[CleanImage]) -> Iterator[None]:
        """Write the files of the images that the rows in the block bring, synced in one pass. Raises NoRoomError."""
        images = list(images)
        quotas.require_room_for_images(images)
        with StagedFiles() as self.staged:
            self.staged.write(images)
            yield

    def enqueue(self, downloads: list[ImageDownload]) -> None:
        """Have the images of these rows fetched from their addresses."""
        if downloads:
            queue.enqueue(downloads)

    def has_image(self, product: Product, sha256: str) -> bool:
        return ProductImage.objects.filter(product=product, sha256=sha256).exists()

    def create(self, row: Row, image: CleanImage, historical: bool) -> Product | None:
        """Create the row's product. Return None if it exists by now."""
        with notifications_suspended():
            try:
                result = intake.add_product(
                    [image],
                    **row.fields(),
                    is_historical=historical,
                    attributes=row.attributes,
                    skip_same_name=not row.sku,
                    staged=self.staged,
                )
            except SkuExistsError:
                result = None
        if result is None or not result.created:
            self.by_sku.pop(row.sku, None)
            return None
        self.by_sku[row.sku] = result.product
        return result.product

    def add_image(self, product: Product, image: CleanImage) -> bool:
        """Add an image to the product. Return False if it has it by now. Raises RowError if it was deleted."""
        with notifications_suspended():
            try:
                return intake.add_images(product, [image], staged=self.staged).created
            except Product.DoesNotExist as error:
                raise self._deleted(product) from error

    @contextmanager
    def locked(self, product: Product) -> Iterator[Product]:
        """Yield the product as stored now, which nothing else changes during the block.

        Raises RowError if it was deleted.
        """
        with transaction.atomic():
            stored = Product.objects.select_for_update().filter(pk=product.pk).first()
            if stored is None:
                raise self._deleted(product)
            yield stored
        if stored.sku:
            self.by_sku[stored.sku] = stored

    def update(self, product: Product, changes: dict[str, Any]) -> None:
        intake.change_product(product, changes)

    def _deleted(self, product: Product) -> RowError:
        self.by_sku.pop(product.sku, None)
        return RowError("not_found", _("The product was deleted during the import. Import the row again."))


class DryRunTarget(ImportTarget):
    """Save nothing, and remember what earlier rows would have saved."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[str, Product] = {}
        self.images: dict[tuple[str, str, str], Product] = {}

    def find_product(self, row: Row, sha256: str = "") -> Product | None:
        changed = self.changed.get(row.sku) if row.sku else self.images.get(("", row.name, sha256))
        return changed or super().find_product(row, sha256)

    @contextmanager
    def stage(self, images: Iterable[CleanImage]) -> Iterator[None]:
        """Write nothing."""
        yield

    def enqueue(self, downloads: list[ImageDownload]) -> None:
        """Fetch nothing."""

    def has_image(self, product: Product, sha256: str) -> bool:
        added = self._image_key(product, sha256) in self.images
        return added or (product.pk is not None and super().has_image(product, sha256))

    def create(self, row: Row, image: CleanImage, historical: bool) -> Product | None:
        product = Product(
            **row.fields(),
            is_historical=historical,
            attributes=dict(row.attributes),
        )
        self._remember(product)
        self.add_image(product, image)
        return product

    def add_image(self, product: Product, image: CleanImage) -> bool:
        self.images[self._image_key(product, image.sha256)] = product
        return True

    @contextmanager
    def locked(self, product: Product) -> Iterator[Product]:
        """Yield the product itself."""
        yield product

    def update(self, product: Product, changes: dict[str, Any]) -> None:
        for name, value in changes.items():
            setattr(product, name, value)
        self._remember(product)

    def _remember(self, product: Product) -> None:
        if product.sku:
            self.changed[product.sku] = product

    @staticmethod
    def _image_key(product: Product, sha256: str) -> tuple[str, str, str]:
        return product.sku, "" if product.sku else product.name, sha256
