"""CSV and XLSX files as rows of text, streamed, with the row numbers that a spreadsheet shows."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Any
from xml.etree.ElementTree import ParseError

from products.importing.errors import ImportFileError
from products.importing.places import ZIP_ERRORS, check_archive

DELIMITERS = (",", ";", "\t")
TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What openpyxl lets through from damaged workbooks.
_XLSX_ERRORS = (*ZIP_ERRORS, ParseError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row. ``cells``: stripped text by column name; ``problem``: why it cannot be read, or empty."""

    number: int
    cells: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. ``columns``: as in the header; ``total``: rows below the header, None when not known beforehand."""

    columns: list[str]
    total: int | None
    rows: Iterator[TableRow]


def is_table(name: str) -> bool:
    """Whether a file of this name is read as a table."""
    return PurePath(name).suffix.lower() in TABLE_SUFFIXES


@contextmanager
def open_table(path: Path, required: Sequence[str]) -> Iterator[Table]:
    """The table in a file on disk. Raises ImportFileError when it cannot be read or lacks a required column."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImportFileError(f"{path} cannot be opened: {error.strerror}.") from error
    with file:
        yield read_table(file, path.name, required)


def read_table(file: IO[bytes], name: str, required: Sequence[str]) -> Table:
    """The table in an open, seekable file. The ``required`` names are lower case; case in the header is ignored.

    CSV: UTF-8 or UTF-16, with or without a byte order mark, separated by commas, semicolons or tabs.
    XLSX: the sheet that was active when it was saved. Raises ImportFileError.
    """
    if PurePath(name).suffix.lower() == ".xlsx":
        columns, total, rows = _xlsx(file, name)
    else:
        columns, total, rows = _csv(file, name, required)
    lower = [column.lower() for column in columns]
    missing = [column for column in required if column not in lower]
    if missing:
        raise ImportFileError(
            f"{name} has no column {' and no column '.join(missing)}. Its first row must name the columns; "
            f"it reads: {', '.join(columns) or 'nothing'}."
        )
    twice = sorted({column for column in lower if column and lower.count(column) > 1})
    if twice:
        raise ImportFileError(f"{name} has more than one column {', '.join(twice)}. Rename or remove the others.")
    return Table(columns, total, _table_rows(columns, rows))


def _table_rows(columns: list[str], rows: Iterator[list[str] | csv.Error]) -> Iterator[TableRow]:
    for number, cells in enumerate(rows, start=2):
        if isinstance(cells, csv.Error):
            yield TableRow(number, problem=f"the row is not proper CSV ({cells}); look for a stray or missing quote")
        elif any(cells[len(columns) :]):
            problem = f"the row has {len(cells)} cells, the header {len(columns)}; look for an unquoted separator"
            yield TableRow(number, problem=problem)
        elif any(cells):
            padded = cells + [""] * (len(columns) - len(cells))
            yield TableRow(number, dict(zip(columns, padded, strict=False)))


def _csv(file: IO[bytes], name: str, required: Sequence[str]) -> tuple[list[str], int, Iterator[list[str] | csv.Error]]:
    text = io.TextIOWrapper(file, encoding=_encoding(file.read(4)), newline="")

    def rows(delimiter: str) -> Iterator[list[str] | csv.Error]:
        text.seek(0)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        while True:
            try:
                yield [cell.strip() for cell in next(reader)]
            except StopIteration:
                return
            except csv.Error as error:
                yield error

    def header(delimiter: str) -> list[str]:
        first = next(rows(delimiter), [])
        return [] if isinstance(first, csv.Error) else first

    def fit(delimiter: str) -> tuple[int, int]:
        columns = [column.lower() for column in header(delimiter)]
        return sum(column in columns for column in required), len(columns)

    try:
        delimiter = max(DELIMITERS, key=fit)
        columns = header(delimiter)
        # Reading it once beforehand finds a wrong encoding before anything is imported, and gives the total.
        total = max(0, sum(1 for _ in rows(delimiter)) - 1)
    except UnicodeError as error:
        raise ImportFileError(f"{name} is neither UTF-8 nor UTF-16. Save it as “CSV UTF-8”.") from error
    below = rows(delimiter)
    next(below, None)
    return columns, total, below


def _encoding(head: bytes) -> str:
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if head[1:2] == b"\x00":
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\x00" else "utf-8"


def _xlsx(file: IO[bytes], name: str) -> tuple[list[str], int | None, Iterator[list[str] | csv.Error]]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(file) as parts:
            check_archive(parts)
        file.seek(0)
        sheet: Any = load_workbook(file, read_only=True, data_only=True).active
        if sheet is None:
            raise ImportFileError(f"{name} has no sheet.")
        total = sheet.max_row and max(0, sheet.max_row - 1)
        sheet.reset_dimensions()  # what some programs write there is wrong, and rows would be cut to it
    except (InvalidFileException, *_XLSX_ERRORS) as error:
        raise ImportFileError(f"{name} is not a readable XLSX workbook: {error}.") from error

    def read() -> Iterator[list[str]]:
        try:
            for cells in sheet.iter_rows(values_only=True):
                yield [_text(value) for value in cells]
        except _XLSX_ERRORS as error:
            raise ImportFileError(f"{name} is damaged and cannot be read to its end: {error}.") from error

    rows = read()
    columns = next(rows, [])
    while columns and not columns[-1]:
        columns.pop()
    return columns, total, rows


def _text(value: object) -> str:
    """A cell as a person would have typed it into a CSV."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value).strip()
