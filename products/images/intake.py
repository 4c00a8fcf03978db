"""The one way in for every picture, whoever brings it: check, clean, store, save, then the queue takes over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from core.request_id import request_id
from gpu.imaging.errors import ImageProcessingError
from products.images import storage
from products.images.cleaning import CleanImage, Upload, clean_image
from products.images.duplicates import find_other_product, find_product_with_images
from products.models import Product, ProductImage
from products.validation import validate_fields, validate_product


class SkuExistsError(Exception):
    """The SKU belongs to another product, or to the same one with other pictures."""

    code = "sku_exists"

    def __init__(self, sku: str, product_id: int) -> None:
        text = _(
            "SKU %(sku)r already belongs to product %(id)d. Choose another SKU, or add the picture to that product "
            "as a view."
        )
        super().__init__(text % {"sku": sku, "id": product_id})
        self.product_id = product_id


class RejectedUploadsError(ImageProcessingError):
    """Some uploads cannot be used. ``code`` and ``message`` are those of the first one.

    ``rejected`` has every rejected upload in order: its file name and its error.
    """

    def __init__(self, code: str, message: str, rejected: Sequence[tuple[str, ImageProcessingError]] = ()) -> None:
        super().__init__(code, message)
        self.rejected = rejected


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What an upload came to. ``duplicate_of``: another product that already has an identical picture."""

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
    attributes: Mapping[str, Any] | None = None,
    skip_duplicates: bool = False,
) -> IntakeResult:
    """Create a product with its pictures, which are then pending for the worker.

    ``uploads`` is read one at a time, so that only one original need be in memory. The same SKU with pictures
    that it already has is the same product again (``created`` is False); ``skip_duplicates`` takes the pictures alone
    for that, so that files which are sent twice are one product.
    Raises RejectedUploadsError for bad pictures, SkuExistsError for a taken SKU, and
    django.core.exceptions.ValidationError for a bad field; then no row and no file is left behind.
    """
    product = Product(
        sku=sku.strip(),
        name=name.strip(),
        category=category.strip(),
        description=description.strip(),
        is_historical=is_historical,
        attributes=dict(attributes or {}),
    )
    validate_product(product)
    pictures = _clean_all(uploads)
    known = _same_product(product.sku, pictures)
    if known is None and skip_duplicates and (product_there := find_product_with_images(_hashes(pictures))):
        known = _known(product_there, pictures)
    if known is not None:
        return known
    with storage.stored_files(pictures) as names:
        try:
            with transaction.atomic():
                product.save()
                images = [
                    _save_image(product, picture, names[picture.sha256], position)
                    for position, picture in enumerate(pictures)
                ]
        except IntegrityError:
            # Somebody else saved this SKU between the look and the save.
            known = _same_product(product.sku, pictures)
            if known is None:
                raise
            storage.delete_files(names.values())
            return known
    return IntakeResult(product, images, created=True, duplicate_of=find_other_product(product, _hashes(pictures)))


def change_product(product: Product, changes: Mapping[str, Any]) -> None:
    """Change fields of a product, and only those: what a worker wrote beside stays.

    A product that becomes a new one gets its matches looked up. Raises SkuExistsError for a taken SKU and
    django.core.exceptions.ValidationError for a bad field.
    """
    changed = {"updated_at", *changes}
    if product.is_historical and changes.get("is_historical") is False:
        product.unmatched_since = timezone.now()
        changed.add("unmatched_since")
    for name, value in changes.items():
        setattr(product, name, value.strip() if isinstance(value, str) else value)
    product.clean_fields()
    validate_fields({name: getattr(product, name) for name in changes})
    try:
        with transaction.atomic():
            product.save(update_fields=changed)
    except IntegrityError as error:
        other = Product.objects.filter(sku=product.sku).exclude(pk=product.pk).first()
        if other is None:
            raise
        raise SkuExistsError(product.sku, other.pk) from error


def add_images(product: Product, uploads: Iterable[Upload | CleanImage]) -> IntakeResult:
    """Add pictures to ``product``, all or none; ``created`` is False when it already had every one of them.

    Raises RejectedUploadsError for bad pictures and Product.DoesNotExist when the product is gone meanwhile.
    """
    pictures = _clean_all(uploads)
    with storage.stored_files(pictures) as names, transaction.atomic():
        # The row lock keeps simultaneous views from getting the same position or the same picture twice.
        product = Product.objects.select_for_update().get(pk=product.pk)
        known = {image.sha256: image for image in product.images.all()}
        new = [picture for picture in pictures if picture.sha256 not in known]
        unused = [names[picture.sha256] for picture in pictures if picture.sha256 in known]
        first = max((image.position for image in known.values()), default=-1) + 1
        for position, picture in enumerate(new, start=first):
            known[picture.sha256] = _save_image(product, picture, names[picture.sha256], position)
        transaction.on_commit(partial(storage.delete_files, unused))
    images = [known[picture.sha256] for picture in pictures]
    return IntakeResult(product, images, created=bool(new), duplicate_of=find_other_product(product, _hashes(pictures)))


def _clean_all(uploads: Iterable[Upload | CleanImage]) -> list[CleanImage]:
    """Return the clean images, each once, in order. Raise RejectedUploadsError for those that cannot be used."""
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
        # The next upload could not even be read. An error that came first is the one to report.
        if not rejected:
            raise
    if rejected:
        first = rejected[0][1]
        raise RejectedUploadsError(first.code, first.message, rejected) from first
    return list(images.values())


def _same_product(sku: str, pictures: Sequence[CleanImage]) -> IntakeResult | None:
    """The product that has this SKU and all these pictures; None for a free SKU; SkuExistsError otherwise."""
    product = Product.objects.filter(sku=sku).first() if sku else None
    if product is None:
        return None
    known = _known(product, pictures)
    if len(known.images) < len(pictures) or not pictures:
        raise SkuExistsError(sku, product.pk)
    return known


def _known(product: Product, pictures: Sequence[CleanImage]) -> IntakeResult:
    """What adding these pictures comes to where the product is there already."""
    images = list(product.images.filter(sha256__in=_hashes(pictures)))
    return IntakeResult(product, images, created=False, duplicate_of=find_other_product(product, _hashes(pictures)))


def _hashes(pictures: Sequence[CleanImage]) -> list[str]:
    return [picture.sha256 for picture in pictures]


def _save_image(product: Product, picture: CleanImage, file_name: str, position: int) -> ProductImage:
    return ProductImage.objects.create(
        product=product,
        file=file_name,
        original_name=picture.original_name,
        sha256=picture.sha256,
        file_sha256=hashlib.sha256(picture.jpeg).hexdigest(),
        width=picture.width,
        height=picture.height,
        position=position,
        request_id=request_id.get(),
    )
