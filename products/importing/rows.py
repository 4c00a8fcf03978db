"""What a file or folder holds, as rows to import: a table that names pictures, or the pictures themselves."""

from __future__ import annotations

import json
import posixpath
import re
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from core.spreadsheets.reader import Table, is_table, open_table, read_table
from core.spreadsheets.writer import unescape_formula
from products.importing.image_sources import FolderSource, ImageSource, open_zip

COLUMNS = ("sku", "name", "category", "description", "is_historical", "image")
# What says which product a row is about, for a table that may also change products.
KEY_COLUMNS = ("image", "sku")
# In parentheses stands what CatalogMatch itself notes in the tables that it writes.
ID_COLUMN = "(id)"
_NOTE = re.compile(r"\(.*\)", re.DOTALL)
_SPELT_OUT = re.compile(r'attribute ("(?:.|\n)*")')
_TRUE = {"true", "1", "yes", "y", "x"}
_FALSE = {"false", "0", "no", "n"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a picture of a product, or what is to change of it.

    ``number`` is what a spreadsheet shows (the header is row 1) or, without a table, the place in the list of
    files. ``problem``: why it cannot be imported, found before the picture is read. ``is_historical``: None where
    the row does not say, then the source's own counts. ``own_category``: the category is where the picture lies, so
    the same SKU elsewhere is another product. ``raw``: the cells as they came.
    """

    number: int
    picture: str = ""
    folder: str = ""
    sku: str = ""
    name: str = ""
    category: str = ""
    description: str = ""
    is_historical: bool | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    product_id: str = ""
    category_from_path: bool = False
    problem: str = ""
    raw: Sequence[str] = ()

    @property
    def label(self) -> str:
        """What people know the row by."""
        return self.sku or self.name or self.picture


@dataclass(frozen=True, slots=True)
class ImportSource:
    """Rows and the place of their pictures, None when the table came without any.

    ``total``: how many rows there are, None when not known beforehand; ``columns``: those of ``Row.raw``;
    ``historical``: what new products are where their row does not say.
    """

    rows: Iterator[Row]
    total: int | None
    place: ImageSource | None
    columns: Sequence[str] = ()
    historical: bool = False


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """A file that came in, and the name that it had: for people, never a path."""

    path: Path
    name: str


@contextmanager
def open_source(path: Path, *, images: Path | None = None, historical: bool = False) -> Iterator[ImportSource]:
    """Open a CSV, an XLSX, a folder of pictures or a ZIP of pictures; the last two may hold one table that names them.

    Without a table a picture's file name is its product's SKU and name, the folder it lies in the category.
    ``images``: what the pictures of a table are relative to, instead of the table's own folder. ``historical``:
    what products are where their row does not say. Raises UnreadableFileError.
    """
    with ExitStack() as stack:
        if not path.exists():
            raise UnreadableFileError(_("There is no file or folder %s.") % path)
        if images is not None and not images.is_dir():
            raise UnreadableFileError(_("There is no folder %s for the pictures.") % images)
        if path.is_file() and is_table(path.name):
            table = stack.enter_context(open_table(path, ["image"], known=COLUMNS))
            rows = _table_rows(table)
            yield ImportSource(rows, table.total, FolderSource(images or path.parent), table.columns, historical)
            return
        place: ImageSource
        if path.is_dir():
            place = FolderSource(path)
        elif zipfile.is_zipfile(path):
            place = stack.enter_context(open_zip(path))
        else:
            raise UnreadableFileError(_("%s is neither a CSV, an XLSX, a ZIP nor a folder of pictures.") % path.name)
        if images is not None:
            text = _("--images goes with a CSV or an XLSX; %s holds its own pictures.")
            raise UnreadableFileError(text % path.name)
        yield stack.enter_context(_within(place, path.name, historical, ["image"]))


@contextmanager
def open_upload(
    table: StoredUpload | None, archive: StoredUpload | None, *, historical: bool = False
) -> Iterator[ImportSource]:
    """Open what somebody sent: a table, a ZIP of pictures (which may hold the table), or both.

    The pictures of a table are only ever those of the ZIP; there they may lie in a folder that holds everything.
    A table needs no pictures where it changes products. Raises UnreadableFileError.
    """
    with ExitStack() as stack:
        place = stack.enter_context(open_zip(archive.path, archive.name)) if archive else None
        if table is not None:
            read = stack.enter_context(open_table(table.path, [], KEY_COLUMNS, COLUMNS, name=table.name))
            rows = _table_rows(read, names=place.names() if place else ())
            yield ImportSource(rows, read.total, place, read.columns, historical)
        elif place is not None and archive is not None:
            yield stack.enter_context(_within(place, archive.name, historical, []))
        else:
            raise UnreadableFileError(_("There is neither a table nor a ZIP."))


@contextmanager
def _within(place: ImageSource, name: str, historical: bool, required: Sequence[str]) -> Iterator[ImportSource]:
    """The rows of a folder or a ZIP: of the table in it, or its pictures."""
    names = place.names()
    tables = [one for one in names if is_table(one)]
    if len(tables) > 1:
        text = _("%(file)s holds several tables (%(names)s). Import one of them by itself.")
        raise UnreadableFileError(text % {"file": name, "names": ", ".join(tables)})
    if not tables:
        yield ImportSource(_picture_rows(names), len(names), place, ("image", "sku", "name", "category"), historical)
        return
    with place.open(tables[0]) as file:
        table = read_table(file, tables[0], required, () if required else KEY_COLUMNS, COLUMNS)
        rows = _table_rows(table, folder=str(PurePosixPath(tables[0]).parent))
        yield ImportSource(rows, table.total, place, table.columns, historical)


def is_note(column: str) -> bool:
    """Whether a column only tells: it is not read."""
    return _NOTE.fullmatch(column) is not None


def attribute_name(column: str) -> str | None:
    """The attribute that a column holds; None for the columns with a meaning of their own."""
    column = unescape_formula(column)
    if spelt_out := _SPELT_OUT.fullmatch(column):
        try:
            return str(json.loads(spelt_out[1]))
        except ValueError:
            return column
    return None if not column or column.lower() in COLUMNS or is_note(column) else column


def attribute_column(attribute: str) -> str:
    """The column of an attribute; one that would be taken for something else is spelt out."""
    if attribute_name(attribute) == attribute and attribute == attribute.strip():
        return attribute
    return f"attribute {json.dumps(attribute, ensure_ascii=False)}"


def _picture_rows(names: list[str]) -> Iterator[Row]:
    for number, name in enumerate(names, start=1):
        path = PurePosixPath(name)
        yield Row(
            number,
            picture=name,
            sku=path.stem,
            name=path.stem,
            category=path.parent.name,
            category_from_path=True,
            raw=(name, path.stem, path.stem, path.parent.name),
        )


def _table_rows(table: Table, *, folder: str = "", names: Collection[str] = ()) -> Iterator[Row]:
    """Rows of a table whose pictures are relative to ``folder``, or to whatever holds all of ``names``."""
    attributes = {column: key for column in table.columns if (key := attribute_name(column)) is not None}
    common = posixpath.commonpath([posixpath.dirname(name) for name in names if not name.startswith("/")] or [""])
    in_common = {posixpath.relpath(name, common) for name in names if name.startswith(f"{common}/")} - {*names}
    for row in table.rows:
        own = {column.lower(): unescape_formula(text).strip() for column, text in row.cells.items()}
        given = {
            key: unescape_formula(row.cells[column]).strip()
            for column, key in attributes.items()
            if column in row.cells
        }
        says = own.get("is_historical", "").lower()
        picture = own.get("image", "")
        problem = row.problem
        if not problem and any("\x00" in text for text in row.raw):
            problem = _("the row holds a NUL character")
        if not problem and says and says not in _TRUE | _FALSE:
            problem = _("is_historical is %r; write true or false, or leave it empty") % says
        yield Row(
            row.number,
            picture=picture,
            folder=common if posixpath.normpath(picture.replace("\\", "/")) in in_common else folder,
            sku=own.get("sku", ""),
            name=own.get("name", ""),
            category=own.get("category", ""),
            description=own.get("description", ""),
            is_historical=says in _TRUE if says else None,
            attributes={key: text for key, text in given.items() if text},
            product_id=own.get(ID_COLUMN, ""),
            problem=problem,
            raw=row.raw,
        )
