"""Import the rows of a source: read, clean ahead on threads, save in order; each row on its own."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from django.core.exceptions import ValidationError

from gpu.images import ImageProcessingError
from products import intake
from products.importing.errors import RowError
from products.importing.sources import Row, Source
from products.intake import CleanPicture, SkuExistsError, Upload
from products.models import Product, ProductImage
from products.tasks import held_back


class Did(StrEnum):
    """What became of a row; the values count rows for people."""

    ADDED = "products added"
    VIEW = "views added"
    KNOWN = "already there"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """One row's result; ``code`` and ``reason`` are given for a refused one."""

    row: Row
    did: Did
    code: str = ""
    reason: str = ""


def import_rows(source: Source, *, dry_run: bool = False) -> Generator[Result]:
    """Import row by row, in order; each result is saved when it is answered.

    Whoever stops asking stops the import cleanly, and starting it again goes on there: a picture that a row's
    product already has is recognised by its bytes before it is decoded. The pictures are left pending and wake
    nobody. With ``dry_run`` everything is checked in the same way and nothing saved.
    """
    threads = max(2, os.cpu_count() or 1)
    waiting: deque[tuple[Row, Result | Future[CleanPicture]]] = deque()
    save = _Plan().save if dry_run else _save

    def finish() -> Result:
        row, work = waiting.popleft()
        try:
            if isinstance(work, Result):
                return work
            return save(row, work.result())
        except (RowError, ImageProcessingError, SkuExistsError) as error:
            return Result(row, Did.REFUSED, error.code, str(error))

    pool = ThreadPoolExecutor(threads, thread_name_prefix="import")
    try:
        for row in source.rows:
            waiting.append((row, _start(row, source, pool)))
            # As many rows ahead as keep the threads busy: that bounds the memory, whatever the length of the file.
            if len(waiting) > 3 * threads:
                yield finish()
        while waiting:
            yield finish()
    finally:
        pool.shutdown(cancel_futures=True)


def _start(row: Row, source: Source, pool: ThreadPoolExecutor) -> Result | Future[CleanPicture]:
    """Check what is quickly checked, read the picture and leave the rest to a thread."""
    try:
        if row.problem:
            raise RowError("validation_error", row.problem)
        Product(sku=row.sku, name=row.name, category=row.category, description=row.description).clean_fields()
        upload = Upload(source.place.read(row.picture, row.folder), row.picture)
        if _has(row, hashlib.sha256(upload.data).hexdigest()):
            return Result(row, Did.KNOWN)
    except ValidationError as error:
        reasons = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items())
        return Result(row, Did.REFUSED, "validation_error", reasons)
    except (RowError, ImageProcessingError) as error:
        return Result(row, Did.REFUSED, error.code, str(error))
    return pool.submit(intake.clean, upload)


def _save(row: Row, picture: CleanPicture) -> Result:
    # Looked at once more: an earlier row may have brought the same picture meanwhile.
    if _has(row, picture.sha256):
        return Result(row, Did.KNOWN)
    with held_back():
        try:
            intake.add_product(
                [picture],
                sku=row.sku,
                name=row.name,
                category=row.category,
                description=row.description,
                is_historical=row.is_historical,
                attributes=row.attributes,
            )
        except SkuExistsError as taken:
            product = Product.objects.get(pk=taken.product_id)
            _check_category(row, product.category)
            intake.add_views(product, [picture])
            return Result(row, Did.VIEW)
    return Result(row, Did.ADDED)


def _has(row: Row, sha256: str) -> bool:
    """Whether the row's product has this picture; without a SKU the product is known by its name."""
    images = ProductImage.objects.filter(sha256=sha256, product__sku=row.sku)
    if not row.sku:
        images = images.filter(product__name=row.name)
    return images.exists()


def _check_category(row: Row, category: str) -> None:
    if row.own_category and row.category != category:
        raise RowError(
            "sku_exists",
            f"{row.sku} is already a product of the category {category or '(none)'}. Rename the file, "
            "or name the pictures in a CSV.",
        )


class _Plan:
    """What saving would do, given the rows before it in the same file."""

    def __init__(self) -> None:
        self.pictures: set[tuple[str, str, str]] = set()
        self.categories: dict[str, str] = {}

    def save(self, row: Row, picture: CleanPicture) -> Result:
        this = (row.sku, "" if row.sku else row.name, picture.sha256)
        if this in self.pictures:
            return Result(row, Did.KNOWN)
        category = self.categories.get(row.sku) if row.sku else None
        if category is None and row.sku:
            category = Product.objects.filter(sku=row.sku).values_list("category", flat=True).first()
        if category is not None:
            _check_category(row, category)
        self.pictures.add(this)
        self.categories.setdefault(row.sku, row.category if category is None else category)
        return Result(row, Did.ADDED if category is None else Did.VIEW)
