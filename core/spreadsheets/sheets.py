"""What every reader of tables returns: sheets of numbered rows of text, and their common limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from core.spreadsheets.writer import XLSX_MAX_ROWS

MAX_ROW_CHARACTERS = 4 * 2**20  # a row of 500 long cells has about 1,000,000
# Characters and cells that a workbook may have when it is read. A few bytes can name a long text again and again, or a
# cell far to the right of an empty row.
MAX_WORKBOOK_SIZE = 256 * 2**20
MAX_SHEETS = 50
MAX_SHEET_ROWS = XLSX_MAX_ROWS


class Mark(StrEnum):
    """Why the text of a cell is not what was typed."""

    DATE = "date"
    ERROR = "error"
    FORMULA = "formula"  # it has no stored value
    LONG_NUMBER = "long number"  # spreadsheets keep 15 digits


NO_MARKS: Mapping[int, Mark] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row of a sheet.

    ``number``: as a spreadsheet program shows it. ``marks``: by index of the cell. ``pictures``: parts of the file
    that are images in this row. ``problem``: why the row cannot be read, or "".
    """

    number: int
    cells: list[str]
    marks: Mapping[int, Mark] = field(default_factory=lambda: NO_MARKS)
    pictures: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet. ``read`` reads it from its start, each time. ``total``: its rows, None if not known yet.

    ``note``: how the file was read, if it was not clear, or "". ``has_pictures``: whether rows may have pictures.
    """

    name: str
    read: Callable[[], Iterator[SheetRow]]
    total: int | None = None
    note: str = ""
    has_pictures: bool = False
