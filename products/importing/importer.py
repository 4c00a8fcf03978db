"""Import the rows of a source: read, clean ahead on threads, save in order; each row on its own."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from core.history.timeline import Change
from gpu.device import cpu_cores
from gpu.imaging.errors import ImageProcessingError
from products.images.cleaning import CleanImage, Upload, clean_image
from products.importing.diff import changed_fields, describe_changes
from products.importing.errors import RowError
from products.importing.rows import ImportSource, Row
from products.importing.target import DryRunTarget, ImportTarget
from products.models import Product
from products.validation import validate_product

_LOOKED_UP = 200  # rows whose products are found with one query


class RowStatus(StrEnum):
    """What became of a row; the values count rows for people."""

    CREATED = "products added"
    UPDATED = "products changed"
    IMAGE_ADDED = "images added"
    SKIPPED = "already there"
    REJECTED = "refused"


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row's result. ``code`` and ``reason``: of a refused one; ``changes``: of a product that was there."""

    row: Row
    status: RowStatus
    code: str = ""
    reason: str = ""
    changes: tuple[Change, ...] = ()


# Nothing to add of a picture: the row names none, or its product has it.
_Work = RowResult | Future[CleanImage] | None
# What refuses a row and stops nothing.
_REFUSALS = (RowError, ImageProcessingError, ValidationError)


def import_rows(source: ImportSource, *, dry_run: bool = False, update: bool = False) -> Generator[RowResult]:
    """Import row by row, in order; each result is saved when it is answered.

    Whoever stops asking stops the import cleanly, and starting it again goes on there: a picture that a row's
    product already has is recognised by its bytes before it is decoded. The pictures are left pending and wake
    nobody. With ``dry_run`` everything is checked in the same way and nothing saved. With ``update`` a row also
    changes the fields of its product that it says otherwise, and needs no picture for that.
    """
    threads = max(2, cpu_cores())
    waiting: deque[tuple[Row, _Work]] = deque()
    importer = _Importer(source, DryRunTarget() if dry_run else ImportTarget(), update)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="import")

    def finish() -> RowResult:
        row, work = waiting.popleft()
        try:
            if isinstance(work, RowResult):
                return work
            return importer.save(row, work.result() if work else None)
        except _REFUSALS as error:
            return _refused(row, error)

    try:
        while rows := list(islice(source.rows, _LOOKED_UP)):
            importer.catalogue.look_up(rows)
            for row in rows:
                waiting.append((row, importer.start(row, pool)))
                # As many rows ahead as keep the threads busy: that bounds the memory, whatever the file's length.
                if len(waiting) > 3 * threads:
                    yield finish()
        while waiting:
            yield finish()
    finally:
        pool.shutdown(cancel_futures=True)


class _Importer:
    def __init__(self, source: ImportSource, catalogue: ImportTarget, update: bool) -> None:
        self.source = source
        self.catalogue = catalogue
        self.update = update

    def start(self, row: Row, pool: ThreadPoolExecutor) -> _Work:
        """Check what is quickly checked, read the picture and leave the rest to a thread."""
        try:
            if row.problem:
                raise RowError("validation_error", row.problem)
            texts = {"sku": row.sku, "name": row.name, "category": row.category, "description": row.description}
            validate_product(Product(**texts, attributes=row.attributes))
            if not row.picture and not self.update:
                raise RowError("validation_error", _("the row names no picture in its column image"))
            if not row.picture or (self.source.place is None and self.catalogue.product_of(row) is not None):
                return None
            if self.source.place is None:
                text = _("%s is not there: no ZIP with pictures came with the table.")
                raise RowError("file_missing", text % row.picture)
            upload = Upload(self.source.place.read(row.picture, row.folder), row.picture)
            sha256 = hashlib.sha256(upload.data).hexdigest()
            product = self.catalogue.product_of(row, sha256)
            if product is not None and self.catalogue.has_picture(product, sha256):
                return None if self.update and row.sku else RowResult(row, RowStatus.SKIPPED)
        except _REFUSALS as error:
            return _refused(row, error)
        return pool.submit(clean_image, upload)

    def save(self, row: Row, picture: CleanImage | None) -> RowResult:
        # Looked at once more: an earlier row may have brought the same product or picture meanwhile.
        product = self.catalogue.product_of(row, picture.sha256 if picture else "")
        if product is None and picture is not None:
            historical = self.source.historical if row.is_historical is None else row.is_historical
            if self.catalogue.add(row, picture, historical) is not None:
                return RowResult(row, RowStatus.CREATED)
            product = self.catalogue.product_of(row, picture.sha256)
        if product is None:
            text = _("There is no product %s yet, and a new one needs a picture.")
            raise RowError("file_missing", text % row.label)
        changes: tuple[Change, ...] = ()
        if self.update and changed_fields(product, row):
            product = self.catalogue.fresh(product)
            changed = changed_fields(product, row)
            changes = describe_changes(product, changed)
            self.catalogue.change(product, changed)
        new_view = picture is not None and not self.catalogue.has_picture(product, picture.sha256)
        if picture is not None and new_view:
            _check_category(row, product.category)
            self.catalogue.add_view(product, picture)
        status = RowStatus.UPDATED if changes else RowStatus.IMAGE_ADDED if new_view else RowStatus.SKIPPED
        return RowResult(row, status, changes=(*changes, Change("image", "", row.picture)) if new_view else changes)


def _refused(row: Row, error: RowError | ImageProcessingError | ValidationError) -> RowResult:
    if isinstance(error, ValidationError):
        reasons = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items())
        return RowResult(row, RowStatus.REJECTED, "validation_error", reasons)
    return RowResult(row, RowStatus.REJECTED, error.code, str(error))


def _check_category(row: Row, category: str) -> None:
    if row.category_from_path and row.category != category:
        text = _(
            "%(sku)s is already a product of the category %(category)s. Rename the file, or name the pictures in a CSV."
        )
        raise RowError("sku_exists", text % {"sku": row.sku, "category": category or _("(none)")})
