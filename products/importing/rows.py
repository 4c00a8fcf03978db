"""Read an import's rows from a table, or one for each image of a folder or ZIP."""

from __future__ import annotations

import json
import posixpath
import re
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from core.spreadsheets.reader import Table, is_table, open_table, read_table
from core.spreadsheets.writer import unescape_formula
from products.importing.grouping import describe_views, products_of_files
from products.importing.image_sources import FolderSource, ImageSource, open_zip
from products.prices import parse_price
from products.validation import TEXT_FIELDS, is_encodable, normalize_field

COLUMNS = (*TEXT_FIELDS, "is_historical", "price", "image")
# One of these identifies the product of a row, in a table that may also change products.
KEY_COLUMNS = ("image", "sku")
# CatalogMatch writes the columns in parentheses. An import reads only the id.
ID_COLUMN = "(id)"
_NOTE = re.compile(r"\(.*\)", re.DOTALL)
_QUOTED_ATTRIBUTE = re.compile(r'attribute ("(?:.|\n)*")')
_TRUE = {"true", "1", "yes", "y", "x"}
_FALSE = {"false", "0", "no", "n"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: images of a product, or changes to a product.

    ``number``: the number in a spreadsheet (the header is row 1), or the position in the list of files.
    ``images``: references to its images as the table has them, in order: a file name, a path or an address.
    ``folder``: the folder that ``images`` are relative to. ``is_historical``: None if the row does not say, then
    ``ImportSource.historical`` decides. ``category_from_path``: the category is the image's folder, so the same
    SKU in another folder is another product. ``problem``: why the row cannot be imported, known before its images
    are read. ``passed_over``: why the row is left alone without being an error, such as the texts of another store
    view. ``notes``: what of the row is not imported. ``raw``: the cells as they came. ``part``: which of the images of
    a row this is, once ``importer.one_per_image`` has made a row of each.
    """

    number: int
    images: tuple[str, ...] = ()
    folder: str = ""
    sku: str = ""
    name: str = ""
    category: str = ""
    description: str = ""
    gtin: str = ""
    mpn: str = ""
    brand: str = ""
    price: str = ""
    currency: str = ""
    is_historical: bool | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    product_id: str = ""
    category_from_path: bool = False
    problem: str = ""
    passed_over: str = ""
    notes: tuple[str, ...] = ()
    raw: Sequence[str] = ()
    part: int = 0

    @property
    def image(self) -> str:
        """Return the reference to its first image, or ""."""
        return self.images[0] if self.images else ""

    @property
    def label(self) -> str:
        """Return the text by which users recognise the row."""
        return self.sku or self.name or self.image

    def fields(self) -> dict[str, Any]:
        """Return the product's texts and price. A price that names its currency also gives the currency.

        Raises ValidationError, by field.
        """
        texts = {name: normalize_field(name, getattr(self, name)) for name in TEXT_FIELDS}
        if not self.price:
            return texts | {"price": None}
        try:
            price = parse_price(self.price)
        except ValidationError as error:
            raise ValidationError({"price": error}) from error
        if price.currency and texts["currency"] not in ("", price.currency):
            text = _("The price is in %(price)s, and the currency is %(currency)s.")
            raise ValidationError({"price": text % {"price": price.currency, "currency": texts["currency"]}})
        return texts | {"price": price.amount, "currency": texts["currency"] or price.currency}


@dataclass(frozen=True, slots=True)
class ImportSource:
    """Rows and where their images are read from.

    ``images``: None if the table came without images. ``total``: number of rows, None if unknown in advance.
    ``columns``: the columns of ``Row.raw``. ``historical``: whether new products are historical if their row does not
    say. ``views``: which files became views of one product by their names, see ``grouping.describe_views``.
    """

    rows: Iterator[Row]
    total: int | None
    images: ImageSource | None
    columns: Sequence[str] = ()
    historical: bool = False
    views: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An uploaded file. ``name`` is the user's name for it and never used as a path."""

    path: Path
    name: str


@contextmanager
def open_source(
    path: Path, *, images: Path | None = None, historical: bool = False, group: bool = True
) -> Iterator[ImportSource]:
    """Open a CSV, an XLSX, or a folder or ZIP of images that may contain one table.

    Without a table, an image's file name is the SKU and name of its product, and its folder is the category.
    ``group``: whether files that are named after their view are images of one product.
    ``images``: the folder that a table's images are relative to, instead of the table's own folder.
    ``historical``: whether products are historical if their row does not say. Raises UnreadableFileError.
    """
    with ExitStack() as stack:
        if not path.exists():
            raise UnreadableFileError(_("There is no file or folder %s.") % path)
        if images is not None and not images.is_dir():
            raise UnreadableFileError(_("There is no folder %s for the images.") % images)
        if path.is_file() and is_table(path.name):
            table = stack.enter_context(open_table(path, ["image"], known=COLUMNS))
            rows = _table_rows(table)
            yield ImportSource(rows, table.total, FolderSource(images or path.parent), table.columns, historical)
            return
        files: ImageSource
        if path.is_dir():
            files = FolderSource(path)
        elif zipfile.is_zipfile(path):
            files = stack.enter_context(open_zip(path))
        else:
            raise UnreadableFileError(_("%s is neither a CSV, an XLSX, a ZIP nor a folder of images.") % path.name)
        if images is not None:
            text = _("--images is for a CSV or an XLSX. %s contains its own images.")
            raise UnreadableFileError(text % path.name)
        yield stack.enter_context(_open_files(files, path.name, historical, ["image"], group))


@contextmanager
def open_upload(
    table: StoredUpload | None, archive: StoredUpload | None, *, historical: bool = False, group: bool = True
) -> Iterator[ImportSource]:
    """Open the files that a user sent: a table, a ZIP of images, or both.

    The ZIP may contain the table. A table's images are read only from the ZIP, where one folder may contain them all.
    A table that only changes products needs no images. Raises UnreadableFileError.
    """
    with ExitStack() as stack:
        images = stack.enter_context(open_zip(archive.path, archive.name)) if archive else None
        if table is not None:
            opened = stack.enter_context(open_table(table.path, [], KEY_COLUMNS, COLUMNS, name=table.name))
            rows = _table_rows(opened, names=images.names() if images else ())
            yield ImportSource(rows, opened.total, images, opened.columns, historical)
        elif images is not None and archive is not None:
            yield stack.enter_context(_open_files(images, archive.name, historical, [], group))
        else:
            raise UnreadableFileError(_("There is neither a table nor a ZIP."))


@contextmanager
def _open_files(
    files: ImageSource, name: str, historical: bool, required: Sequence[str], group: bool
) -> Iterator[ImportSource]:
    """Open the one table among the files, or take every file as an image."""
    names = files.names()
    tables = [file_name for file_name in names if is_table(file_name)]
    if len(tables) > 1:
        text = _("%(file)s contains several tables (%(names)s). Import one of them by itself.")
        raise UnreadableFileError(text % {"file": name, "names": ", ".join(tables)})
    if not tables:
        rows, columns = _image_rows(names, group), ("image", "sku", "name", "category")
        yield ImportSource(rows, len(names), files, columns, historical, describe_views(names))
        return
    with files.open(tables[0]) as file:
        table = read_table(file, tables[0], required, () if required else KEY_COLUMNS, COLUMNS)
        rows = _table_rows(table, folder=str(PurePosixPath(tables[0]).parent))
        yield ImportSource(rows, table.total, files, table.columns, historical)


def is_note(column: str) -> bool:
    """Return whether the column is in parentheses. An import does not read it."""
    return _NOTE.fullmatch(column) is not None


def attribute_name(column: str) -> str | None:
    """Return the column's attribute, or None for a column with its own meaning."""
    column = unescape_formula(column)
    if quoted := _QUOTED_ATTRIBUTE.fullmatch(column):
        try:
            name = str(json.loads(quoted[1]))
        except ValueError:
            return column
        return name if is_encodable(name) else column
    return None if not column or column.lower() in COLUMNS or is_note(column) else column


def attribute_column(attribute: str) -> str:
    """Return an attribute's column, quoted if ``attribute_name`` would misread it."""
    if attribute_name(attribute) == attribute and attribute == attribute.strip():
        return attribute
    return f"attribute {json.dumps(attribute, ensure_ascii=False)}"


def _image_rows(names: list[str], group: bool) -> Iterator[Row]:
    for number, file in enumerate(products_of_files(names, group=group), start=1):
        name = file.name
        if not is_encodable(name):
            printable = name.encode(errors="replace").decode()
            yield Row(number, images=(printable,), problem=_("the file name is not valid Unicode"), raw=(printable,))
            continue
        yield Row(
            number,
            images=(name,),
            sku=file.sku,
            name=file.sku,
            category=file.category,
            category_from_path=True,
            problem="" if _is_valid_text(name) else _("the file's name is not valid Unicode; rename the file"),
            raw=(name, file.sku, file.sku, file.category),
        )


def _is_valid_text(text: str) -> bool:
    """Return whether UTF-8 can write the text, which excludes names of files in other encodings."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _table_rows(table: Table, *, folder: str = "", names: Collection[str] = ()) -> Iterator[Row]:
    """Yield a table's rows.

    Images are relative to ``folder``, or to the folder that contains all of ``names``.
    """
    attributes = {column: key for column in table.columns if (key := attribute_name(column)) is not None}
    common = posixpath.commonpath([posixpath.dirname(name) for name in names if not name.startswith("/")] or [""])
    in_common = {posixpath.relpath(name, common) for name in names if name.startswith(f"{common}/")} - {*names}
    for row in table.rows:
        cells = {column.lower(): unescape_formula(text).strip() for column, text in row.cells.items()}
        attribute_cells = {
            key: unescape_formula(row.cells[column]).strip()
            for column, key in attributes.items()
            if column in row.cells
        }
        texts: dict[str, Any] = {name: cells.get(name, "") for name in TEXT_FIELDS}
        historical = cells.get("is_historical", "").lower()
        image = cells.get("image", "")
        problem = row.problem
        if not problem and any("\x00" in text for text in row.raw):
            problem = _("the row contains a NUL character")
        if not problem and not all(map(is_encodable, row.raw)):
            problem = _("the row is not valid Unicode")
        if not problem and historical and historical not in _TRUE | _FALSE:
            problem = _("is_historical is %r; write true or false, or leave it empty") % historical
        yield Row(
            row.number,
            images=(image,) if image else (),
            folder=common if posixpath.normpath(image.replace("\\", "/")) in in_common else folder,
            price=cells.get("price", ""),
            **texts,
            is_historical=historical in _TRUE if historical else None,
            attributes={key: text for key, text in attribute_cells.items() if text},
            product_id=cells.get(ID_COLUMN, ""),
            problem=problem,
            raw=row.raw,
        )
