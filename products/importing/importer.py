"""Import rows in order, while threads clean the images of the next rows."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from core.cpu import cpu_cores
from core.history.timeline import Change
from core.web.fetching import FetchError, parse_address
from gpu.imaging.errors import ImageProcessingError
from products.images.cleaning import CleanImage, Upload, clean_image
from products.importing.diff import changed_fields, describe_changes
from products.importing.errors import RowError
from products.importing.file_names import is_address
from products.importing.row import Row
from products.importing.rows import ImportSource
from products.importing.target import DryRunTarget, ImportTarget
from products.models import ImageDownload, Import, Product
from products.validation import TEXT_FIELDS, validate_product

_LOOKUP_ROWS = 200  # rows whose products are looked up with one query
# Rows whose files are synced together. Kept originals have up to 20 MiB each and wait in memory.
_GROUP_ROWS, _GROUP_ROWS_WITH_ORIGINALS = 16, 4


class RowStatus(StrEnum):
    """The outcome of a row. The value is the text after a count of such rows."""

    CREATED = "products added"
    UPDATED = "products changed"
    IMAGE_ADDED = "images added"
    SKIPPED = "already there"
    REJECTED = "refused"
    TO_FETCH = "images to fetch"


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of a row.

    ``code`` and ``reason`` say why it was rejected. ``changes`` are those of a product that existed before.
    ``is_queued``: whether the image is still to be fetched from its address.
    """

    row: Row
    status: RowStatus
    code: str = ""
    reason: str = ""
    changes: tuple[Change, ...] = ()
    is_queued: bool = False


# None: no image to add, because the row names none or its product has it. ImageDownload: the image is at an address.
_StartedRow = RowResult | Future[CleanImage] | ImageDownload | None
# Errors that reject one row. Any other error stops the import.
_ROW_ERRORS = (RowError, ImageProcessingError, ValidationError)


def import_rows(
    source: ImportSource, *, dry_run: bool = False, update: bool = False, job: Import | None = None
) -> Generator[RowResult]:
    """Import row by row, in order. Yield each result after the row is saved.

    Closing the generator stops the import between two rows. A new import continues there, because an image that
    the row's product has is recognised by its hash before it is decoded. The images stay pending, and no worker is
    notified. ``dry_run`` runs the same checks and saves nothing. ``update`` also changes the fields of existing
    products, and then a row needs no image. An image at an address is only queued, for ``products.downloads``; ``job``
    is the import that shows how it ends.
    """
    threads = max(2, cpu_cores())
    group = _GROUP_ROWS_WITH_ORIGINALS if settings.KEEP_ORIGINALS else _GROUP_ROWS
    waiting: deque[tuple[Row, _StartedRow]] = deque()
    importer = _Importer(source, DryRunTarget() if dry_run else ImportTarget(), update, job)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="import")
    try:
        units = one_per_image(source.rows)
        while rows := list(islice(units, _LOOKUP_ROWS)):
            importer.target.look_up(rows)
            for row in rows:
                waiting.append((row, importer.start(row, pool)))
                # Enough rows ahead to keep the threads busy, so that memory stays bounded for a file of any length.
                if len(waiting) >= 3 * threads + group:
                    yield from importer.finish([waiting.popleft() for _ in range(group)])
        while waiting:
            yield from importer.finish([waiting.popleft() for _ in range(min(group, len(waiting)))])
    finally:
        pool.shutdown(cancel_futures=True)


def save_images(images: Sequence[tuple[Row, CleanImage]]) -> Iterator[RowResult]:
    """Save images that were fetched for rows of an import, as ``import_rows`` does. Yield each result, in order."""
    importer = _Importer(ImportSource(iter(()), None, None), ImportTarget(), update=False)
    started: list[tuple[Row, _StartedRow]] = []
    for row, image in images:
        future: Future[CleanImage] = Future()
        future.set_result(image)
        started.append((row, future))
    yield from importer.finish(started)


def one_per_image(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield a row for each image that a row names, all with the row's fields, so that each image has its own result.

    A row whose fields cannot be imported comes once, with its problem.
    """
    for row in rows:
        if row.part or row.problem or row.passed_over:
            yield row
            continue
        try:
            validate_product(Product(**row.fields(), attributes=row.attributes))
        except ValidationError as error:
            yield replace(row, problem=_reasons(error))
            continue
        if len(row.images) < 2:
            yield row
            continue
        for part, image in enumerate(row.images):
            yield replace(row, images=(image,), part=part)


class _Importer:
    def __init__(self, source: ImportSource, target: ImportTarget, update: bool, job: Import | None = None) -> None:
        self.source = source
        self.target = target
        self.update = update
        self.job = job
        self.last_product: tuple[int, Product] | None = None  # of the last row that has one, by its number
        self.resumed_row: int | None = None  # the number of the row in which a stopped import continues, else 0

    def start(self, row: Row, pool: ThreadPoolExecutor) -> _StartedRow:
        """Do the quick checks and read the image. Leave its decoding to a thread."""
        if self.resumed_row is None:
            self.resumed_row = row.number if row.part else 0
        try:
            if row.problem:
                raise RowError("validation_error", row.problem)
            if row.passed_over:
                return RowResult(row, RowStatus.SKIPPED, reason=row.passed_over)
            if not row.image and not self.update:
                raise RowError("validation_error", _("the row names no image in its column image"))
            name, folder = row.image, row.folder
            if is_address(row.image):
                # The image may lie beside the table, for those who have no network.
                found = self.source.images.find_address(row.image) if self.source.images else None
                if found is None:
                    return self._download(row)
                name, folder = found, ""
            if not row.image or (self.source.images is None and self.target.find_product(row) is not None):
                return None
            if self.source.images is None:
                text = _("%s is missing: the table was sent without a ZIP of images.")
                raise RowError("file_missing", text % row.image)
            upload = Upload(self.source.images.read(name, folder), name)
            sha256 = hashlib.sha256(upload.data).hexdigest()
            product = self.target.find_product(row, sha256)
            if product is not None and self.target.has_image(product, sha256):
                return None if self.update and row.sku else RowResult(row, RowStatus.SKIPPED)
        except _ROW_ERRORS as error:
            return _rejected(row, error)
        return pool.submit(clean_image, upload)

    def finish(self, started_rows: Sequence[tuple[Row, _StartedRow]]) -> Iterator[RowResult]:
        """Save rows in order, after the files of all their images were written in one pass."""
        self.target.enqueue([started for _row, started in started_rows if isinstance(started, ImageDownload)])
        with self.target.stage(image for _row, started in started_rows if (image := _image_of(started)) is not None):
            for row, started in started_rows:
                try:
                    if isinstance(started, RowResult):
                        yield started
                    elif isinstance(started, ImageDownload):
                        # The fields of a product that exists do not wait for the image.
                        known = self.update and self.target.find_product(row) is not None
                        changes = self.save(row, None).changes if known else ()
                        status = RowStatus.UPDATED if changes else RowStatus.TO_FETCH
                        yield RowResult(row, status, changes=changes, is_queued=True)
                    else:
                        yield self.save(row, started.result() if started else None)
                except _ROW_ERRORS as error:
                    yield _rejected(row, error)

    def save(self, row: Row, image: CleanImage | None) -> RowResult:
        # Look it up again: an earlier row may have added the same product or image since ``start``.
        product = self.target.find_product(row, image.sha256 if image else "") or self._product_of_row(row)
        if product is None and image is not None:
            historical = self.source.historical if row.is_historical is None else row.is_historical
            if (product := self.target.create(row, image, historical)) is not None:
                self.last_product = (row.number, product)
                return RowResult(row, RowStatus.CREATED)
            product = self.target.find_product(row, image.sha256)
        if product is None:
            text = _("There is no product %s yet, and a new product needs an image.")
            raise RowError("file_missing", text % row.label)
        self.last_product = (row.number, product)
        changes: tuple[Change, ...] = ()
        if self.update and changed_fields(product, row):
            # Locked, because attributes are merged with the stored ones.
            with self.target.locked(product) as product:
                changed = changed_fields(product, row)
                changes = describe_changes(product, changed)
                if changed:
                    self.target.update(product, changed)
        status = RowStatus.UPDATED if changes else RowStatus.SKIPPED
        if image is not None and not self.target.has_image(product, image.sha256):
            _check_category(row, product.category)
            if self.target.add_image(product, image):
                status = RowStatus.UPDATED if changes else RowStatus.IMAGE_ADDED
                changes = (*changes, Change("image", "", row.image))
        return RowResult(row, status, changes=changes)

    def _download(self, row: Row) -> ImageDownload:
        """Return the download of an image at an address. Raises RowError."""
        try:
            host = parse_address(row.image).host
        except FetchError as error:
            raise RowError(error.code, str(error)) from error
        if not row.sku:
            raise RowError("validation_error", _("an image at an address needs a row with a SKU"))
        fields = {name: getattr(row, name) for name in (*TEXT_FIELDS, "price") if name != "sku"}
        fields |= {
            "is_historical": self.source.historical if row.is_historical is None else row.is_historical,
            "attributes": row.attributes,
        }
        return ImageDownload(
            import_job=self.job, sku=row.sku, address=row.image, host=host, row_number=row.number, fields=fields
        )

    def _product_of_row(self, row: Row) -> Product | None:
        """Return the product that an earlier image of a row without SKU made."""
        if row.sku or not row.part:
            return None
        if self.last_product is not None and self.last_product[0] == row.number:
            return self.last_product[1]
        return self.target.newest_of_name(row) if row.number == self.resumed_row else None


def _image_of(started: _StartedRow) -> CleanImage | None:
    """Wait for a row's image. Return None if the row has none, or one that rejects it."""
    return started.result() if isinstance(started, Future) and started.exception() is None else None


def _rejected(row: Row, error: RowError | ImageProcessingError | ValidationError) -> RowResult:
    if isinstance(error, ValidationError):
        return RowResult(row, RowStatus.REJECTED, "validation_error", _reasons(error))
    return RowResult(row, RowStatus.REJECTED, error.code, str(error))


def _reasons(error: ValidationError) -> str:
    return "; ".join(f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items())


def _check_category(row: Row, category: str) -> None:
    """Raise RowError if files of one name in two folders would become one product."""
    if row.category_from_path and row.category != category:
        text = _(
            "%(sku)s is already a product of the category %(category)s. Rename the file, or name the images in a CSV."
        )
        raise RowError("sku_exists", text % {"sku": row.sku, "category": category or _("(none)")})
