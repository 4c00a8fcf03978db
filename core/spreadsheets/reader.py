"""Read CSV and XLSX files as rows of text, streamed, with the row numbers that a spreadsheet shows."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, Any
from xml.etree.ElementTree import ParseError  # nosec B405 # only an exception

from django.utils.translation import gettext as _

from core.archives import ZIP_ERRORS, open_archive
from core.errors import UnreadableFileError
from core.spreadsheets.headers import missing_columns_message
from core.spreadsheets.writer import XLSX_MAX_ROWS

DELIMITERS = (",", ";", "\t")
MAX_COLUMNS = 500  # an export of a large shop system has about 200
MAX_ROWS = 10_000_000  # of a CSV, which can hold millions of empty ones
MAX_ROW_CHARACTERS = 4 * 2**20  # a row of 500 long cells has about 1,000,000
MAX_COLUMN_NAME = 2_000  # characters
MAX_PROBLEM_TEXT = 30_000  # characters kept of a row that cannot be read
TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# openpyxl reads these parts row by row or not at all. It loads all other parts into memory.
_STREAMED_PARTS = ("xl/worksheets/", "xl/media/", "xl/embeddings/")
MAX_IN_MEMORY_BYTES = 64 * 2**20
# Characters and cells that a workbook may have when it is read. A few bytes can name a long text again and again, or a
# cell far to the right of an empty row.
MAX_WORKBOOK_SIZE = 256 * 2**20
# What openpyxl raises for damaged workbooks.
_XLSX_ERRORS = (*ZIP_ERRORS, ParseError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table.

    cells: stripped text by column name.
    problem: why the row cannot be read, or "".
    raw: all cells in their order, also those beyond the header; the text of a row that is not valid CSV.
    """

    number: int
    cells: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    raw: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its rows.

    ``columns`` are as in the header. ``total`` counts the rows below it, None if not known yet.
    """

    columns: list[str]
    total: int | None
    rows: Iterator[TableRow]


def is_table(name: str) -> bool:
    """Whether a file of this name is read as a table."""
    return PurePath(name).suffix.lower() in TABLE_SUFFIXES


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Lines that are not valid CSV, and why."""

    text: str
    reason: str


_Rows = Iterator[list[str] | _Unreadable]


@contextmanager
def open_table(
    path: Path, required: Sequence[str], one_of: Sequence[str] = (), known: Collection[str] = (), *, name: str = ""
) -> Iterator[Table]:
    """Open a file and read it with ``read_table``.

    ``name`` is shown to users, by default the file's own.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableFileError(
            _("%(file)s cannot be opened: %(reason)s.") % {"file": name or path, "reason": error.strerror}
        ) from error
    with file:
        yield read_table(file, name or path.name, required, one_of, known)


def read_table(
    file: IO[bytes], name: str, required: Sequence[str], one_of: Sequence[str] = (), known: Collection[str] = ()
) -> Table:
    """Read the table in an open, seekable file. Raises UnreadableFileError.

    required: columns that the table must have. one_of: columns of which it must have one. known: all columns that
    have a meaning. These names are lower case; the case of the header is ignored for them.
    CSV is UTF-8 or UTF-16, with or without a byte order mark, separated by commas, semicolons or tabs.
    XLSX: the sheet that was active when the file was saved.
    """
    known = {*required, *one_of, *known}
    if PurePath(name).suffix.lower() == ".xlsx":
        columns, total, rows = _xlsx(file, name)
    else:
        columns, total, rows = _csv(file, name, known)
    if len(columns) > MAX_COLUMNS:
        text = _("%(file)s has %(count)s columns, more than the limit of %(limit)d. Remove those that you do not need.")
        raise UnreadableFileError(text % {"file": name, "count": f"{len(columns):,}", "limit": MAX_COLUMNS})
    for number, column in enumerate(columns, start=1):
        if len(column) > MAX_COLUMN_NAME:
            text = _("The name of column %(number)d of %(file)s has %(length)d characters. The limit is %(limit)d.")
            values = {"number": number, "file": name, "length": len(column), "limit": MAX_COLUMN_NAME}
            raise UnreadableFileError(text % values)
    lower = [column.lower() for column in columns]
    missing = [column for column in required if column not in lower]
    if one_of and not set(one_of) & set(lower):
        missing += one_of
    if missing:
        raise UnreadableFileError(missing_columns_message(name, missing, columns))
    named = [column.lower() if column.lower() in known else column for column in columns]
    twice = sorted(column for column, count in Counter(named).items() if column and count > 1)
    if twice:
        text = _("%(file)s has more than one column %(names)s. Rename or remove the others.")
        raise UnreadableFileError(text % {"file": name, "names": ", ".join(twice)})
    return Table(columns, total, _table_rows(columns, rows))


def _table_rows(columns: list[str], rows: _Rows) -> Iterator[TableRow]:
    for number, cells in enumerate(rows, start=2):
        if isinstance(cells, _Unreadable):
            problem = _("the row is not proper CSV (%(reason)s); look for a stray or missing quote")
            yield TableRow(number, problem=problem % {"reason": cells.reason}, raw=(cells.text,))
        elif any(cells[len(columns) :]):
            problem = _("the row has %(cells)d cells, the header %(columns)d; look for an unquoted separator")
            yield TableRow(number, problem=problem % {"cells": len(cells), "columns": len(columns)}, raw=cells)
        elif any(cells):
            padded = cells + [""] * (len(columns) - len(cells))
            yield TableRow(number, dict(zip(columns, padded, strict=False)), raw=cells)


def _csv(file: IO[bytes], name: str, known: Collection[str]) -> tuple[list[str], int, _Rows]:
    text = io.TextIOWrapper(file, encoding=_encoding(file.read(4)), newline="")

    def rows(delimiter: str) -> _Rows:
        text.seek(0)
        read: list[str] = []

        def lines() -> Iterator[str]:
            while line := text.readline(MAX_ROW_CHARACTERS + 1):
                read.append(line)
                if len(read) == 1:
                    size = 0
                size += len(line)
                if size > MAX_ROW_CHARACTERS:
                    reason = _("%(file)s has a row of more than %(limit)s characters; look for missing line ends.")
                    raise UnreadableFileError(reason % {"file": name, "limit": f"{MAX_ROW_CHARACTERS:,}"})
                yield line

        reader = csv.reader(lines(), delimiter=delimiter, strict=True)
        while True:
            read.clear()
            try:
                yield [cell.strip() for cell in next(reader)]
            except StopIteration:
                return
            except csv.Error as error:
                yield _Unreadable("".join(read)[:MAX_PROBLEM_TEXT].strip(), str(error))

    def header(delimiter: str) -> list[str]:
        first = next(rows(delimiter), [])
        return [] if isinstance(first, _Unreadable) else first

    def fit(delimiter: str) -> tuple[int, int]:
        columns = [column.lower() for column in header(delimiter)]
        return sum(column in columns for column in known), len(columns)

    try:
        delimiter = max(DELIMITERS, key=fit)
        columns = header(delimiter)
        # Read the file once to find a wrong encoding before anything is imported, and to count the rows.
        total = max(0, sum(1 for _row in islice(rows(delimiter), MAX_ROWS + 2)) - 1)
    except UnicodeError as error:
        raise UnreadableFileError(_("%s is neither UTF-8 nor UTF-16. Save it as “CSV UTF-8”.") % name) from error
    if total > MAX_ROWS:
        raise UnreadableFileError(
            _("%(file)s has more than %(limit)s rows. Split it.")
            % {
                "file": name,
                "limit": f"{MAX_ROWS:,}",
            }
        )
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


def _xlsx(file: IO[bytes], name: str) -> tuple[list[str], int | None, _Rows]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with open_archive(file) as parts:
            whole = [part for part in parts.infolist() if not part.filename.startswith(_STREAMED_PARTS)]
            if sum(part.file_size for part in whole) > MAX_IN_MEMORY_BYTES:
                text = _("%s holds more text than can be read at once. Save it as “CSV UTF-8”.")
                raise UnreadableFileError(text % name)
        file.seek(0)
        sheet: Any = load_workbook(file, read_only=True, data_only=True).active
        if sheet is None:
            raise UnreadableFileError(_("%s has no sheet.") % name)
        total = sheet.max_row and max(0, sheet.max_row - 1)
        sheet.reset_dimensions()  # some programs write wrong dimensions, which would cut rows
    except (InvalidFileException, *_XLSX_ERRORS) as error:
        text = _("%(file)s is not a readable XLSX workbook: %(reason)s.")
        raise UnreadableFileError(text % {"file": name, "reason": error}) from error

    def read() -> Iterator[list[str]]:
        try:
            size = 0
            # A damaged workbook can claim endless empty rows.
            for cells in islice(sheet.iter_rows(values_only=True), XLSX_MAX_ROWS):
                texts = [_text(value) for value in cells]
                size += len(texts) + sum(map(len, texts))
                if size > MAX_WORKBOOK_SIZE:
                    text = _("%s holds more text than a table may have. Split it, or save it as “CSV UTF-8”.")
                    raise UnreadableFileError(text % name)
                yield texts
        except _XLSX_ERRORS as error:
            text = _("%(file)s is damaged and cannot be read to its end: %(reason)s.")
            raise UnreadableFileError(text % {"file": name, "reason": error}) from error

    rows = read()
    columns = next(rows, [])
    while columns and not columns[-1]:
        columns.pop()
    return columns, total, rows


def _text(value: object) -> str:
    """Return a cell as a user would have typed it into a CSV."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()  # XLSX has no dates without a time
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value).strip()
