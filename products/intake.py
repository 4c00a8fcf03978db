"""The one way in for every picture, whoever brings it: check, clean, store, save, then the queue takes over."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction

from gpu.images import MAX_BYTES, ImageProcessingError, decode
from products.models import Product, ProductImage, picture_path
from products.tracing import request_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.files import File
    from PIL import Image

JPEG_QUALITY = 92


class SkuExistsError(Exception):
    """The SKU belongs to another product, or to the same one with other pictures."""

    code = "sku_exists"

    def __init__(self, sku: str, product_id: int) -> None:
        super().__init__(
            f"SKU {sku!r} already belongs to product {product_id}, which does not have this picture. "
            "Add the picture to that product as a view, or choose another SKU."
        )
        self.product_id = product_id


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it came: its bytes and the name it had (kept for people, never used as a path)."""

    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class CleanPicture:
    """A picture that passed every check, re-encoded: upright, RGB, without metadata."""

    sha256: str
    width: int
    height: int
    jpeg: bytes
    thumbnail: bytes
    original_name: str


@dataclass(frozen=True, slots=True)
class Added:
    """What an upload came to. ``duplicate_of``: another product that already has an identical picture."""

    product: Product
    images: list[ProductImage]
    created: bool
    duplicate_of: int | None


def clean(upload: Upload) -> CleanPicture:
    """Check one picture in full and re-encode it. Raises gpu.images.ImageProcessingError; stores nothing.

    ``sha256`` is of the uploaded bytes, since those are what a user can recognise as the same file.
    ``width`` and ``height`` are those of the upright original in pixels; the derivative's longer side is
    at most ``settings.DERIVATIVE_MAX_SIDE``.
    """
    picture = decode(upload.data)
    width, height = picture.size
    return CleanPicture(
        sha256=hashlib.sha256(upload.data).hexdigest(),
        width=width,
        height=height,
        jpeg=_jpeg(picture, settings.DERIVATIVE_MAX_SIDE, JPEG_QUALITY),
        thumbnail=_jpeg(picture, settings.THUMBNAIL_SIDE, 85),
        original_name=PurePath(upload.name.replace("\\", "/")).name.replace("\x00", "")[:255],
    )


def add_product(
    uploads: Sequence[Upload],
    *,
    sku: str = "",
    name: str = "",
    category: str = "",
    description: str = "",
    is_historical: bool = False,
    attributes: Mapping[str, Any] | None = None,
) -> Added:
    """Create a product with its pictures, which are then pending for the worker.

    The same SKU with pictures that it already has is the same product again (``created`` is False).
    Raises ImageProcessingError for a bad picture, SkuExistsError for a taken SKU, and
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
    product.clean_fields()
    pictures = _clean_all(uploads)
    known = _same_product(product.sku, pictures)
    if known is not None:
        return known
    with _stored(pictures) as names:
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
            _remove(names.values())
            return known
    return Added(product, images, created=True, duplicate_of=_duplicate_of(product, pictures))


def add_views(product: Product, uploads: Sequence[Upload]) -> Added:
    """Add pictures to ``product``, all or none; ``created`` is False when it already had every one of them.

    Raises ImageProcessingError for a bad picture and Product.DoesNotExist when the product is gone meanwhile.
    """
    pictures = _clean_all(uploads)
    with _stored(pictures) as names, transaction.atomic():
        # The row lock keeps simultaneous views from getting the same position or the same picture twice.
        product = Product.objects.select_for_update().get(pk=product.pk)
        known = {image.sha256: image for image in product.images.all()}
        new = [picture for picture in pictures if picture.sha256 not in known]
        first = max((image.position for image in known.values()), default=-1) + 1
        for position, picture in enumerate(new, start=first):
            known[picture.sha256] = _save_image(product, picture, names[picture.sha256], position)
        unused = [names[picture.sha256] for picture in pictures if picture not in new]
        transaction.on_commit(partial(_remove, unused))
    images = [known[picture.sha256] for picture in pictures]
    return Added(product, images, created=bool(new), duplicate_of=_duplicate_of(product, pictures))


def read_bounded(file: File[bytes]) -> bytes:
    """The bytes of an uploaded file. Raises ImageProcessingError before reading one that is over the limit."""
    if file.size is not None and file.size > MAX_BYTES:
        megabytes = MAX_BYTES // 2**20
        raise ImageProcessingError(
            "image_too_large", f"{file.name!r} is larger than {megabytes} MiB. Use a smaller one."
        )
    return file.read()


def remove_files(image: ProductImage) -> None:
    """Delete a picture's derivative and thumbnail from the storage; missing ones are fine."""
    _remove([str(image.file.name)])


def _clean_all(uploads: Sequence[Upload]) -> list[CleanPicture]:
    """The clean pictures, each once, in order."""
    return list({picture.sha256: picture for picture in map(clean, uploads)}.values())


def _same_product(sku: str, pictures: Sequence[CleanPicture]) -> Added | None:
    """The product that has this SKU and all these pictures; None for a free SKU; SkuExistsError otherwise."""
    if not sku:
        return None
    product = Product.objects.filter(sku=sku).first()
    if product is None:
        return None
    images = list(product.images.filter(sha256__in=[picture.sha256 for picture in pictures]))
    if len(images) < len(pictures) or not pictures:
        raise SkuExistsError(sku, product.pk)
    return Added(product, images, created=False, duplicate_of=_duplicate_of(product, pictures))


def _duplicate_of(product: Product, pictures: Sequence[CleanPicture]) -> int | None:
    others = ProductImage.objects.filter(sha256__in=[p.sha256 for p in pictures]).exclude(product=product)
    return others.order_by("product_id").values_list("product_id", flat=True).first()


def _save_image(product: Product, picture: CleanPicture, file_name: str, position: int) -> ProductImage:
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


@contextmanager
def _stored(pictures: Sequence[CleanPicture]) -> Iterator[dict[str, str]]:
    """Write the pictures' files, outside any transaction, and take them away again when the block fails."""
    names: dict[str, str] = {}
    written: list[str] = []
    try:
        for picture in pictures:
            image = ProductImage(file=picture_path(ProductImage(), ""))
            for name, data in ((str(image.file.name), picture.jpeg), (image.thumbnail_name, picture.thumbnail)):
                written.append(name)
                default_storage.save(name, ContentFile(data))
            names[picture.sha256] = str(image.file.name)
        yield names
    except BaseException:
        for name in written:
            default_storage.delete(name)
        raise


def _remove(file_names: Iterable[str]) -> None:
    for name in file_names:
        default_storage.delete(name)
        default_storage.delete(ProductImage(file=name).thumbnail_name)


def _jpeg(picture: Image.Image, side: int, quality: int) -> bytes:
    """``picture`` as JPEG with full colour resolution, shrunk to ``side`` pixels where it is larger."""
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
