"""Read tables of any kind as rows of text, streamed, with the row numbers that a spreadsheet shows."""

from __future__ import annotations

import codecs
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import IO

from django.utils.translation import gettext as _

from core.archives import ZIP_ERRORS
from core.errors import UnreadableFileError
from core.spreadsheets.feeds import read_feed
from core.spreadsheets.headers import missing_columns_message
from core.spreadsheets.html import read_html
from core.spreadsheets.opendocument import read_opendocument
from core.spreadsheets.sheets import NO_MARKS, Mark, Sheet, SheetRow
from core.spreadsheets.text import HEADER_ROWS, read_text
from core.spreadsheets.workbook import read_workbook

MAX_COLUMNS = 500  # an export of a large shop system has about 200
MAX_COLUMN_NAME = 2_000  # characters
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".xlsx", ".xlsm", ".ods")
# Files of these names are tables only if they look like one: other tools write them too.
POSSIBLE_TABLE_SUFFIXES = (".txt", ".xml", ".xls", ".htm", ".html", ".json", ".jsonl")
_SPREADSHEET = ".xlsx", ".xlsm", ".ods"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"
_INVISIBLE = re.compile("[\ufeff\u200b\u200c\u200d\u2060]")
_EXACT_NAME = re.compile(r'\w+ ".*"', re.DOTALL)

Score = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table.

    ``values``: stripped text of each column. ``marks``: why a cell's text is not what was typed, by index.
    ``pictures``: parts of the file that are images in this row. ``problem``: why the row cannot be read, or "".
    ``raw``: all cells in their order, also those beyond the header, or the text of a row that is not valid CSV.
    """

    number: int
    columns: Sequence[str] = ()
    values: Sequence[str] = ()
    marks: Mapping[int, Mark] = field(default_factory=lambda: NO_MARKS)
    pictures: tuple[str, ...] = ()
    problem: str = ""
    raw: Sequence[str] = ()

    @property
    def cells(self) -> dict[str, str]:
        """Return the text by column name."""
        return dict(zip(self.columns, self.values, strict=False))


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its rows.

    ``columns`` are as in the header, which is row ``header``. ``total`` counts the rows below it, None if not known
    yet. ``read`` reads them from the first, each time. ``has_pictures``: whether rows may have pictures. ``note``:
    what was unclear about the file, as a sentence, or "".
    """

    columns: list[str]
    total: int | None
    read: Callable[[], Iterator[TableRow]]
    header: int = 1
    has_pictures: bool = False
    note: str = ""

    @property
    def rows(self) -> Iterator[TableRow]:
        return self.read()


def is_table(name: str) -> bool:
    """Return whether a file of this name is read as a table."""
    return PurePath(name).suffix.lower() in TABLE_SUFFIXES


def may_be_table(name: str) -> bool:
    """Return whether a file of this name is read as a table if a user says that it is one."""
    return PurePath(name).suffix.lower() in (*TABLE_SUFFIXES, *POSSIBLE_TABLE_SUFFIXES)


@contextmanager
def open_table(
    path: Path,
    required: Sequence[str] = (),
    one_of: Sequence[str] = (),
    known: Collection[str] = (),
    *,
    name: str = "",
    score: Score | None = None,
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
        yield read_table(file, name or path.name, required, one_of, known, score=score)


def read_table(
    file: IO[bytes],
    name: str,
    required: Sequence[str] = (),
    one_of: Sequence[str] = (),
    known: Collection[str] = (),
    *,
    score: Score | None = None,
) -> Table:
    """Read the table in an open, seekable file. Raises UnreadableFileError.

    required: columns that the table must have. one_of: columns of which it must have one. known: all columns that
    have a meaning. These names are lower case; the case of the header is ignored for them. score: how much a row
    looks like a header, by default the number of its known columns. With a score, columns may repeat.

    The content decides how the file is read, not its name. The header is the best of the first rows, on the best
    sheet. If several are equal, the first sheet and row count, but of rows below each other the last.
    """
    known = {*required, *one_of, *known}
    sheets = _sheets(file, name, score or (lambda cells: _known_columns(cells, known)))
    sheet, header = _header(sheets, score or (lambda cells: _known_columns(cells, known)))
    columns = [column_name(cell) for cell in header.cells]
    while columns and not columns[-1]:
        columns.pop()
    _check_columns(name, columns)
    lower = [column.lower() for column in columns]
    missing = [column for column in required if column not in lower]
    if one_of and not set(one_of) & set(lower):
        missing += one_of
    if missing:
        raise UnreadableFileError(missing_columns_message(name, missing, columns))
    if score is None:
        check_repeated_columns(name, [column.lower() if column.lower() in known else column for column in columns])
    notes = [sheet.note] if sheet.note else []
    if sheet is not sheets[0]:
        notes.append(_("The table is on the sheet “%s”.") % sheet.name)
    if header.number > 1:
        notes.append(_("Row %d names the columns.") % header.number)
    total = None if sheet.total is None else max(0, sheet.total - header.number)

    def read() -> Iterator[TableRow]:
        return _table_rows(columns, header.number, sheet.read())

    return Table(columns, total, read, header.number, sheet.has_pictures, " ".join(notes))


def column_name(cell: str) -> str:
    """Return a header's cell without line breaks and characters that cannot be seen.

    A name in quotes after a word is meant exactly, such as ``attribute "two  spaces"``.
    """
    if _EXACT_NAME.fullmatch(cell):
        return cell
    cell = _INVISIBLE.sub("", cell).strip()
    bare = cell.strip('"') if cell.startswith('"') and cell.endswith('"') else cell
    return " ".join((cell if '"' in bare else bare).split())


def check_repeated_columns(name: str, columns: Sequence[str]) -> None:
    """Raise UnreadableFileError if a column is there twice."""
    twice = sorted(column for column, count in Counter(columns).items() if column and count > 1)
    if twice:
        text = _("%(file)s has more than one column %(names)s. Rename or remove the others.")
        raise UnreadableFileError(text % {"file": name, "names": ", ".join(twice)})


def _check_columns(name: str, columns: Sequence[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        text = _("%(file)s has %(count)s columns, more than the limit of %(limit)d. Remove those that you do not need.")
        raise UnreadableFileError(text % {"file": name, "count": f"{len(columns):,}", "limit": MAX_COLUMNS})
    for number, column in enumerate(columns, start=1):
        if len(column) > MAX_COLUMN_NAME:
            text = _("The name of column %(number)d of %(file)s has %(length)d characters. The limit is %(limit)d.")
            values = {"number": number, "file": name, "length": len(column), "limit": MAX_COLUMN_NAME}
            raise UnreadableFileError(text % values)


def _known_columns(cells: Sequence[str], known: Collection[str]) -> int:
    columns = {column_name(cell).lower() for cell in cells}
    return sum(column in columns for column in known)


def _sheets(file: IO[bytes], name: str, score: Score) -> list[Sheet]:
    """Return the sheets of a file, by what its first bytes say."""
    suffix = PurePath(name).suffix.lower()
    head = file.read(2048)
    file.seek(0)
    if head.startswith(_OLD_EXCEL):
        raise UnreadableFileError(_("%s is an old Excel workbook. Save it as XLSX or “CSV UTF-8”.") % name)
    if suffix in _SPREADSHEET or head.startswith(b"PK\x03\x04"):
        return read_opendocument(file, name) if _is_opendocument(file, suffix) else read_workbook(file, name)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if b"urn:schemas-microsoft-com:office:spreadsheet" in start and start.startswith(b"<?xml"):
        raise UnreadableFileError(_("%s is an XML spreadsheet of Excel 2003. Save it as XLSX or “CSV UTF-8”.") % name)
    if start.startswith((b"<!doctype html", b"<html", b"<table", b"<meta", b"<style")) or suffix in (".htm", ".html"):
        return [read_html(file, name)]
    if start.startswith((b"<?xml", b"<rss", b"<feed")):
        return [read_feed(file, name)]
    if suffix in (".json", ".jsonl"):
        text = _("%s is JSON, which cannot be imported. Convert it to a CSV or XLSX.")
        if b'"item_id"' in start and b'"item_name"' in start:
            text = _(
                "%s has listings of Amazon Berkeley Objects as JSON, which cannot be imported. Convert it to a CSV."
            )
        raise UnreadableFileError(text % name)
    return [read_text(file, name, score)]


def _is_opendocument(file: IO[bytes], suffix: str) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            kind = archive.open("mimetype").read(200)
    except (*ZIP_ERRORS, KeyError):
        return suffix == ".ods"
    finally:
        file.seek(0)
    return b"opendocument" in kind


def _header(sheets: Sequence[Sheet], score: Score) -> tuple[Sheet, SheetRow]:
    """Return the sheet and row that name the columns."""
    best, found = -1, (sheets[0], SheetRow(1, []))
    for sheet in sheets:
        previous: SheetRow | None = None
        for row in islice(sheet.read(), HEADER_ROWS):
            if row.problem or not any(row.cells):
                continue
            points = score(row.cells)
            follows = previous is not None and found == (sheet, previous) and points > 1 and points == best
            if points > best or follows:
                best, found = points, (sheet, row)
            previous = row
    return found


def _table_rows(columns: list[str], header: int, rows: Iterator[SheetRow]) -> Iterator[TableRow]:
    width = len(columns)
    for row in rows:
        if row.number <= header:
            continue
        cells = row.cells
        if row.problem:
            yield TableRow(row.number, problem=row.problem, raw=cells)
        elif any(cells[width:]):
            problem = _("the row has %(cells)d cells, the header %(columns)d; look for an unquoted separator")
            values = {"cells": len(cells), "columns": width}
            yield TableRow(row.number, columns, problem=problem % values, raw=cells)
        elif any(cells) or row.pictures:
            padded = cells[:width] + [""] * (width - len(cells))
            yield TableRow(row.number, columns, padded, row.marks, row.pictures, raw=cells)
