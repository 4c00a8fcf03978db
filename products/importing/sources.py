"""What PATH holds, as rows to import: a table that names pictures, or the pictures themselves."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from products.importing.errors import ImportFileError
from products.importing.places import Folder, Place, open_archive
from products.importing.tables import Table, is_table, open_table, read_table

_COLUMNS = {"sku", "name", "category", "description", "is_historical", "image"}
_TRUE = {"true", "1", "yes", "y", "x"}
_FALSE = {"false", "0", "no", "n"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a picture of a product. ``problem``: why it cannot be imported, found before the picture is read.

    ``number`` is what a spreadsheet shows (the header is row 1) or, without a table, the place in the list of
    files. ``own_category``: the category is where the picture lies, so the same SKU elsewhere is another product.
    """

    number: int
    picture: str = ""
    folder: str = ""
    sku: str = ""
    name: str = ""
    category: str = ""
    description: str = ""
    is_historical: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    own_category: bool = False
    problem: str = ""

    @property
    def label(self) -> str:
        """What people know the row by."""
        return self.sku or self.name or self.picture


@dataclass(frozen=True, slots=True)
class Source:
    """Rows and the place of their pictures. ``total``: how many rows there are, None when not known beforehand."""

    rows: Iterator[Row]
    total: int | None
    place: Place


@contextmanager
def open_source(path: Path, *, images: Path | None = None, historical: bool = False) -> Iterator[Source]:
    """Open a CSV, an XLSX, a folder of pictures or a ZIP of pictures; the last two may hold one table that names them.

    Without a table a picture's file name is its product's SKU and name, the folder it lies in the category.
    ``images``: what the pictures of a table are relative to, instead of the table's own folder. ``historical``:
    what products are where their row does not say. Raises ImportFileError.
    """
    with ExitStack() as stack:
        if not path.exists():
            raise ImportFileError(f"There is no file or folder {path}.")
        if images is not None and not images.is_dir():
            raise ImportFileError(f"There is no folder {images} for the pictures.")
        place: Place
        if path.is_file() and is_table(path.name):
            place = Folder(images or path.parent)
            table = stack.enter_context(open_table(path, ["image"]))
            yield Source(_table_rows(table, "", historical), table.total, place)
            return
        if path.is_dir():
            place = Folder(path)
        elif zipfile.is_zipfile(path):
            place = stack.enter_context(open_archive(path))
        else:
            raise ImportFileError(f"{path.name} is neither a CSV, an XLSX, a ZIP nor a folder of pictures.")
        names = place.names()
        tables = [name for name in names if is_table(name)]
        if len(tables) > 1:
            raise ImportFileError(
                f"{path.name} holds several tables ({', '.join(tables)}). Import one of them by itself."
            )
        if images is not None:
            raise ImportFileError(f"--images goes with a CSV or an XLSX; {path.name} holds its own pictures.")
        if tables:
            table = read_table(stack.enter_context(place.open(tables[0])), tables[0], ["image"])
            folder = str(PurePosixPath(tables[0]).parent)
            yield Source(_table_rows(table, folder, historical), table.total, place)
        else:
            yield Source(_picture_rows(names, historical), len(names), place)


def _picture_rows(names: list[str], historical: bool) -> Iterator[Row]:
    for number, name in enumerate(names, start=1):
        path = PurePosixPath(name)
        yield Row(
            number,
            picture=name,
            sku=path.stem,
            name=path.stem,
            category=path.parent.name,
            is_historical=historical,
            own_category=True,
        )


def _table_rows(table: Table, folder: str, historical: bool) -> Iterator[Row]:
    more = [column for column in table.columns if column and column.lower() not in _COLUMNS]
    for row in table.rows:
        cells = {column.lower(): text for column, text in row.cells.items()}
        says = cells.get("is_historical", "").lower()
        problem = row.problem
        if not problem and "\x00" in "".join(cells.values()):
            problem = "the row holds a NUL character"
        if not problem and not cells["image"]:
            problem = "the row names no picture in its column image"
        if not problem and says and says not in _TRUE | _FALSE:
            problem = f"is_historical is {says!r}; write true or false, or leave it empty"
        yield Row(
            row.number,
            picture=cells.get("image", ""),
            folder=folder,
            sku=cells.get("sku", ""),
            name=cells.get("name", ""),
            category=cells.get("category", ""),
            description=cells.get("description", ""),
            is_historical=says in _TRUE if says else historical,
            attributes={column: row.cells[column] for column in more if row.cells.get(column)},
            problem=problem,
        )
