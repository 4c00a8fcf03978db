"""Add products and images: check, clean, store and save, for uploads and imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from core.database.locks import lock_names
from core.request_id import request_id
from gpu.imaging.barcodes import READER
from gpu.imaging.errors import ImageProcessingError
from products import quotas
from products.images import barcodes, storage
from products.images.cleaning import CleanImage, Upload, clean_image
from products.images.duplicates import find_other_product, find_product_with_images
from products.images.storage import StagedFiles
from products.merges import product_with_sku
from products.models import Product, ProductImage
from products.validation import normalize_field, validate_fields, validate_product


class SkuExistsError(Exception):
    """The SKU belongs to another product, or the same product lacks an image."""

    code = "sku_exists"

    def __init__(self, sku: str, product_id: int) -> None:
        text = _("SKU %(sku)r already belongs to product %(id)d. Choose another SKU, or add the image to that product.")
        super().__init__(text % {"sku": sku, "id": product_id})
        self.product_id = product_id


class RejectedUploadsError(ImageProcessingError):
    """Some uploads cannot be used. ``code`` and ``message`` are those of the first.

    ``rejected`` has every rejected upload in order: its file name and its error.
    """

    def __init__(self, code: str, message: str, rejected: Sequence[tuple[str, ImageProcessingError]] = ()) -> None:
        super().__init__(code, message)
        self.rejected = rejected


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """The product and images of an upload.

    ``created``: whether something was added. ``duplicate_of``: the id of another product that has an identical image.
    """

    product: Product
    images: list[ProductImage]
    created: bool
    duplicate_of: int | None


def add_product(
    uploads: Iterable[Upload | CleanImage],
    *,
    sku: str = "",
    name: str = "",
    category: str = "",
    description: str = "",
    is_historical: bool = False,
    gtin: str = "",
    mpn: str = "",
    brand: str = "",
    price: Decimal | None = None,
    currency: str = "",
    attributes: Mapping[str, Any] | None = None,
    skip_duplicates: bool = False,
    skip_same_name: bool = False,
    staged: StagedFiles | None = None,
) -> IntakeResult:
    """Create a product with its images, which are then pending for the worker.

    ``uploads`` is read one at a time, so that only one original is in memory. If the product of the SKU has all the
    images, return that product with ``created`` False. ``skip_duplicates`` does the same for any product with all
    the images, and ``skip_same_name`` for one without SKU that also has the name. ``staged`` holds files that are
    written already. Raises RejectedUploadsError for images that cannot be used, SkuExistsError for a taken SKU,
    NoRoomError, and django.core.exceptions.ValidationError for an invalid field. Then no row and no file is left
    behind.
    """
    texts = {
        "sku": sku,
        "name": name,
        "category": category,
        "description": description,
        "gtin": gtin,
        "mpn": mpn,
        "brand": brand,
        "currency": currency,
    }
    product = Product(
        **{field: normalize_field(field, text) for field, text in texts.items()},
        is_historical=is_historical,
        price=price,
        attributes=dict(attributes or {}),
    )
    validate_product(product)
    clean_images = _clean_all(uploads)
    hashes = _hashes(clean_images)

    def find_existing() -> IntakeResult | None:
        if (by_sku := _existing_by_sku(product.sku, clean_images)) is not None:
            return by_sku
        duplicate = find_product_with_images(hashes) if skip_duplicates else None
        if duplicate is None and skip_same_name:
            duplicate = find_product_with_images(hashes, sku="", name=product.name)
        return None if duplicate is None else _existing(duplicate, clean_images)

    if (existing := find_existing()) is not None:
        return existing
    if staged is None:
        quotas.require_room_for_images(clean_images)
    with storage.stored_files(clean_images, staged) as names, storage.saving_rows(names):
        lock_names([*_sku_lock(product.sku), *(hashes if skip_duplicates or skip_same_name else [])])
        # Another process may have saved this product since the first look, while the files were written.
        if (existing := find_existing()) is not None:
            transaction.on_commit(partial(storage.delete_files, list(names.values())))
            return existing
        product.save()
        images = [
            _save_image(product, image, names[image.sha256], position) for position, image in enumerate(clean_images)
        ]
    return IntakeResult(product, images, created=True, duplicate_of=find_other_product(product, hashes))


def change_product(product: Product, changes: Mapping[str, Any]) -> None:
    """Change these fields of a product and no others, which workers may have written.

    A product that enters or leaves the catalogue is queued for matching.
    Raises SkuExistsError for a taken SKU, NoRoomError, django.core.exceptions.ValidationError for an invalid field, and
    Product.DoesNotExist if it was deleted.
    """
    quotas.require_room_for_history()
    changed = {"updated_at", *changes}
    for name, value in changes.items():
        setattr(product, name, normalize_field(name, value))
    unchanged = {field.name for field in Product._meta.fields} - changes.keys()
    product.clean_fields(exclude=unchanged)
    validate_fields({name: getattr(product, name) for name in changes})
    with transaction.atomic():
        if "sku" in changes and (other := find_other_with_sku(product)):
            raise SkuExistsError(product.sku, other.pk)
        stored = Product.objects.select_for_update(no_key=True).values_list("is_historical", flat=True)
        was_historical = stored.get(pk=product.pk)
        if changes.get("is_historical", was_historical) != was_historical:
            product.unmatched_since = timezone.now()
            changed.add("unmatched_since")
        product.save(update_fields=changed)


def find_other_with_sku(product: Product) -> Product | None:
    """Return another product that has this product's SKU, or with which one of this SKU was merged.

    No other product gets the SKU before the transaction ends.
    """
    lock_names(_sku_lock(product.sku))
    other = product_with_sku(product.sku) if product.sku else None
    return None if other is None or other.pk == product.pk else other


def add_images(
    product: Product, uploads: Iterable[Upload | CleanImage], *, staged: StagedFiles | None = None
) -> IntakeResult:
    """Add all images to ``product``, or none. ``created``: whether it lacked any.

    Raises RejectedUploadsError for images that cannot be used, NoRoomError, and Product.DoesNotExist if the product
    was deleted.
    """
    clean_images = _clean_all(uploads)
    if staged is None:
        quotas.require_room_for_images(clean_images)
    with storage.stored_files(clean_images, staged) as names, storage.saving_rows(names):
        # The row lock keeps simultaneous uploads from using a position twice or adding an image twice.
        product = Product.objects.select_for_update().get(pk=product.pk)
        by_hash = {image.sha256: image for image in product.images.all()}
        new = [image for image in clean_images if image.sha256 not in by_hash]
        unused = [names[image.sha256] for image in clean_images if image.sha256 in by_hash]
        first = max((image.position for image in by_hash.values()), default=-1) + 1
        for position, image in enumerate(new, start=first):
            by_hash[image.sha256] = _save_image(product, image, names[image.sha256], position)
        transaction.on_commit(partial(storage.delete_files, unused))
    duplicate_of = find_other_product(product, _hashes(clean_images))
    return IntakeResult(
        product, [by_hash[image.sha256] for image in clean_images], created=bool(new), duplicate_of=duplicate_of
    )


def _clean_all(uploads: Iterable[Upload | CleanImage]) -> list[CleanImage]:
    """Return the clean images, each once, in order. Raises RejectedUploadsError."""
    images: dict[str, CleanImage] = {}
    rejected: list[tuple[str, ImageProcessingError]] = []
    try:
        for upload in uploads:
            if isinstance(upload, CleanImage):
                images[upload.sha256] = upload
                continue
            try:
                image = clean_image(upload)
            except ImageProcessingError as error:
                rejected.append((upload.name, error))
            else:
                images[image.sha256] = image
    except ImageProcessingError:
        # The next upload could not be read. An earlier error is the one to report.
        if not rejected:
            raise
    if rejected:
        first = rejected[0][1]
        raise RejectedUploadsError(first.code, first.message, rejected) from first
    return list(images.values())


def _existing_by_sku(sku: str, images: Sequence[CleanImage]) -> IntakeResult | None:
    """Return the product with this SKU and all these images, or None for a free SKU.

    Raises SkuExistsError if the product lacks an image.
    """
    product = product_with_sku(sku) if sku else None
    if product is None:
        return None
    existing = _existing(product, images)
    if len(existing.images) < len(images) or not images:
        raise SkuExistsError(sku, product.pk)
    return existing


def _existing(product: Product, images: Sequence[CleanImage]) -> IntakeResult:
    hashes = _hashes(images)
    stored = list(product.images.filter(sha256__in=hashes))
    return IntakeResult(product, stored, created=False, duplicate_of=find_other_product(product, hashes))


def _sku_lock(sku: str) -> list[str]:
    """Return the lock that everything takes which gives a product this SKU."""
    return [f"sku {sku}"] if sku else []


def _hashes(images: Sequence[CleanImage]) -> list[str]:
    return [image.sha256 for image in images]


def _save_image(product: Product, image: CleanImage, file_name: str, position: int) -> ProductImage:
    row = ProductImage.objects.create(
        product=product,
        file=file_name,
        original_name=image.original_name,
        sha256=image.sha256,
        **storage.file_columns(image),
        width=image.width,
        height=image.height,
        position=position,
        request_id=request_id.get(),
        barcode_reader=barcodes.UNREAD if image.barcodes is None else READER,
    )
    if image.barcodes:
        barcodes.add(row, image.barcodes)
    return row
