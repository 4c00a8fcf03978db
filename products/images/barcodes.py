"""Store the barcodes of images, fill in those of earlier images, and take back wrong ones."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from gpu.imaging.barcodes import READER
from gpu.imaging.errors import ImageProcessingError
from gpu.sandbox import pool
from products.images import originals
from products.models import Barcode, Product, ProductImage

logger = logging.getLogger(__name__)

UNREAD = 0
_BATCH = 16


@dataclass(slots=True)
class ReadBarcodes:
    """How many images were read, how many barcodes they have, and why others could not be read, by id."""

    images: int = 0
    barcodes: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def add(image: ProductImage, numbers: Iterable[str]) -> None:
    """Store the barcodes of a new image."""
    Barcode.objects.bulk_create(Barcode(image=image, number=number) for number in dict.fromkeys(numbers))


def store(found: Mapping[int, Collection[str]]) -> None:
    """Replace the barcodes of images by their ids. What a user has removed stays removed.

    Products that get a new barcode are matched again. Images that were deleted meanwhile are left out.
    """
    with transaction.atomic():
        # Images before products, as workers and deletions lock them.
        locked = ProductImage.objects.select_for_update().filter(pk__in=found).order_by("pk")
        products = dict(locked.values_list("pk", "product_id"))
        known: dict[int, dict[str, Barcode]] = defaultdict(dict)
        for barcode in Barcode.objects.filter(image__in=products):
            known[barcode.image_id][barcode.number] = barcode
        new = [
            Barcode(image_id=image, number=number)
            for image in products
            for number in dict.fromkeys(found[image])
            if number not in known[image]
        ]
        gone = [
            barcode.pk
            for image, barcodes in known.items()
            for number, barcode in barcodes.items()
            if number not in found[image] and barcode.removed_at is None
        ]
        Barcode.objects.filter(pk__in=gone).delete()
        Barcode.objects.bulk_create(new)
        ProductImage.objects.filter(pk__in=products).update(barcode_reader=READER)
        if new:
            _match_again(Product.objects.filter(pk__in={products[barcode.image_id] for barcode in new}))


def unread_images() -> QuerySet[ProductImage]:
    """Return the images that the current reader has not looked at."""
    return ProductImage.objects.filter(barcode_reader__lt=READER)


def read_unread(progress: Callable[[int], Any] = lambda _count: None, seconds: float | None = None) -> ReadBarcodes:
    """Read the barcodes of the images that lack them, from the kept originals or else from the derivatives.

    ``progress`` is called with the number of images after each batch and may raise to stop. Then the next call
    continues. After ``seconds`` no further batch begins. An image that cannot be read is not tried again.
    """
    result = ReadBarcodes()
    deadline = None if seconds is None else time.monotonic() + seconds
    with ThreadPoolExecutor(settings.DECODERS, "barcodes") as threads:
        last = 0
        while batch := list(unread_images().filter(pk__gt=last).order_by("pk")[:_BATCH]):
            found: dict[int, Collection[str]] = {}
            for image, read in zip(batch, threads.map(_read, batch), strict=True):
                if isinstance(read, str):
                    result.failed[image.pk] = read
                    logger.warning("The barcodes of image %d were not read: %s", image.pk, read)
                found[image.pk] = () if isinstance(read, str) else read
            store(found)
            last = batch[-1].pk
            result.images += len(batch)
            result.barcodes += sum(map(len, found.values()))
            progress(len(batch))
            if deadline is not None and time.monotonic() >= deadline:
                break
    return result


def _read(image: ProductImage) -> tuple[str, ...] | str:
    """Return the barcodes of a stored image, or why they cannot be read."""
    original = originals.original_path(str(image.file.name))
    path = original if original.exists() else Path(image.file.path)
    try:
        return pool.decode_in_sandbox(path.read_bytes(), settings.DERIVATIVE_MAX_SIDE, with_barcodes=True).barcodes
    except OSError as error:
        return f"its file cannot be read: {error}"
    except ImageProcessingError as error:
        return f"{error.code}: {error.message}"


def mark(product: Product, number: str, *, is_wrong: bool, user: Any) -> int:
    """Say that a number read from a product's images is not the product's, or that it is.

    Returns of how many images. The product is matched again.
    """
    with transaction.atomic():
        changed = Barcode.objects.filter(image__product=product, number=number, removed_at__isnull=is_wrong).update(
            removed_at=timezone.now() if is_wrong else None, removed_by=user if is_wrong else None
        )
        if changed:
            _match_again(Product.objects.filter(pk=product.pk))
    return changed


def of_product(product: Product) -> list[Barcode]:
    """Return the barcodes of a product's images, each number once, with the removed ones last."""
    found: dict[str, Barcode] = {}
    for barcode in Barcode.objects.filter(image__product=product).select_related("removed_by").order_by("pk"):
        if barcode.removed_at is None or barcode.number not in found:
            found[barcode.number] = barcode
    return sorted(found.values(), key=lambda barcode: barcode.removed_at is not None)


def numbers_of(product_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Return the barcodes of products by id, without removed ones. Products without any are left out."""
    rows = Barcode.objects.filter(image__product__in=list(product_ids), removed_at=None).order_by("pk")
    found: dict[int, dict[str, None]] = defaultdict(dict)
    for product, number in rows.values_list("image__product_id", "number"):
        found[product][number] = None
    return {product: tuple(numbers) for product, numbers in found.items()}


def _match_again(products: QuerySet[Product]) -> None:
    products.update(unmatched_since=timezone.now())
