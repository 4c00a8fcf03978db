"""Read OpenDocument spreadsheets (.ods) row by row."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial
from typing import IO, cast

from django.utils.translation import gettext as _

from core.archives import ZIP_ERRORS, open_archive
from core.errors import UnreadableFileError
from core.spreadsheets import sheets
from core.spreadsheets.sheets import NO_MARKS, Mark, Sheet, SheetRow
from core.spreadsheets.workbook import number_text
from core.spreadsheets.xml import Attributes, Handler, parse

_CONTENT = "content.xml"
_NUMBERS = ("float", "currency", "percentage")
_MAX_COLUMNS = 16_384


def read_opendocument(file: IO[bytes], name: str) -> list[Sheet]:
    """Return the sheets of a spreadsheet. Raises UnreadableFileError."""
    try:
        archive = open_archive(file)
        archive.getinfo(_CONTENT)
    except (*ZIP_ERRORS, KeyError) as error:
        raise UnreadableFileError(_unreadable(name)) from error
    titles = [title for title in _parse(archive, name, _Titles()) if isinstance(title, str)]
    if not titles:
        raise UnreadableFileError(_unreadable(name))
    has_pictures = any(entry.startswith("Pictures/") for entry in archive.namelist())
    return [
        Sheet(title, partial(_rows, archive, name, index), has_pictures=has_pictures)
        for index, title in enumerate(titles[: sheets.MAX_SHEETS])
    ]


def _unreadable(name: str) -> str:
    return _("%s is not a readable OpenDocument spreadsheet. Save it as XLSX or “CSV UTF-8”.") % name


def _parse(archive: zipfile.ZipFile, name: str, handler: Handler) -> Iterator[object]:
    try:
        file = archive.open(_CONTENT)
    except ZIP_ERRORS as error:
        raise UnreadableFileError(_unreadable(name)) from error
    with file:
        yield from parse(file, name, handler)


def _rows(archive: zipfile.ZipFile, name: str, index: int) -> Iterator[SheetRow]:
    size, number = 0, 0
    for row, repeated in cast(Iterator[tuple[SheetRow, int]], _parse(archive, name, _Rows(index, name))):
        if not any(row.cells) and not row.pictures:
            number += repeated
            continue
        for _copy in range(repeated):
            number += 1
            if number > sheets.MAX_SHEET_ROWS:
                return
            size += len(row.cells) + sum(map(len, row.cells))
            if size > sheets.MAX_WORKBOOK_SIZE:
                raise UnreadableFileError(_too_large(name))
            yield SheetRow(number, list(row.cells), row.marks, row.pictures)


def _too_large(name: str) -> str:
    return _("%s holds more text than a table may have. Split it, or save it as “CSV UTF-8”.") % name


class _Titles(Handler):
    def start(self, name: str, attributes: Attributes) -> None:
        if name == "table":
            self.found.append(attributes.get("name", ""))


class _Rows(Handler):
    """Find the rows of one sheet, each with how often it is repeated."""

    def __init__(self, index: int, name: str) -> None:
        super().__init__()
        self.index = index
        self.name = name
        self.table = -1
        self.cell: Attributes | None = None
        self.cells: list[str] = []
        self.marks: dict[int, Mark] = {}
        self.pictures: list[str] = []
        self.pieces: list[str] = []
        self.size = 0
        self.repeated = 1
        self.gap = 0  # empty cells that count only if a filled one follows
        self.in_text = 0
        self.in_note = 0
        self.merged: dict[int, tuple[int, str]] = {}  # rows that still follow, and their text, by column

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "table":
            self.table += 1
        if self.table != self.index:
            return
        if name == "table-row":
            self.cells, self.marks, self.pictures, self.gap, self.size = [], {}, [], 0, 0
            self.repeated = _count(attributes.get("number-rows-repeated"))
        elif name in ("table-cell", "covered-table-cell"):
            self.cell, self.pieces = attributes, []
        elif name == "annotation":
            self.in_note += 1
        elif self.cell is None or self.in_note:
            pass
        elif name == "p":
            self.pieces += ["\n"] if self.pieces else []
            self.in_text += 1
        elif name == "s":
            self.text(" " * min(_count(attributes.get("c")), 1000))
        elif name in ("tab", "line-break"):
            self.text("\t" if name == "tab" else "\n")
        elif name == "image" and attributes.get("href", "").startswith("Pictures/"):
            self.pictures.append(attributes["href"])

    def text(self, data: str) -> None:
        if self.in_text and not self.in_note:
            self.pieces.append(data)
            self.size += len(data)
            if self.size > sheets.MAX_ROW_CHARACTERS:
                raise UnreadableFileError(_too_large(self.name))

    def end(self, name: str) -> None:
        if self.table != self.index:
            return
        if name == "annotation":
            self.in_note -= 1
        elif name == "p":
            self.in_text = max(0, self.in_text - 1)
        elif name in ("table-cell", "covered-table-cell") and self.cell is not None:
            self._add(self.cell, "".join(self.pieces).strip())
            self.cell = None
        elif name == "table-row":
            self._fill()
            row = SheetRow(0, self.cells, self.marks or NO_MARKS, tuple(self.pictures))
            self.found.append((row, self.repeated))

    def _add(self, cell: Attributes, shown: str) -> None:
        text, mark = _value(cell, shown)
        repeated = _count(cell.get("number-columns-repeated"))
        if not text:
            self.gap += repeated
            return
        count = self.gap + repeated
        if len(self.cells) + count > _MAX_COLUMNS or len(text) * repeated > sheets.MAX_ROW_CHARACTERS:
            raise UnreadableFileError(_too_large(self.name))
        self.cells += [""] * self.gap + [text] * repeated
        self.gap = 0
        if mark is not None:
            self.marks |= dict.fromkeys(range(len(self.cells) - repeated, len(self.cells)), mark)
        if (rows := _count(cell.get("number-rows-spanned"))) > 1 and "\0" not in text:
            self.merged[len(self.cells) - 1] = (rows, text)

    def _fill(self) -> None:
        """Write the texts of merged cells into their further rows, if these have other cells."""
        for column, (rows, text) in list(self.merged.items()):
            if column < len(self.cells) and not self.cells[column] and any(self.cells):
                self.cells[column] = text
            if rows <= self.repeated:
                del self.merged[column]
            else:
                self.merged[column] = (rows - self.repeated, text)


def _value(cell: Attributes, shown: str) -> tuple[str, Mark | None]:
    """Return a cell as it was typed. A number that is shown with zeros in front keeps them."""
    kind = cell.get("value-type", "")
    if shown.startswith("#") and (kind == "error" or cell.get("formula")):
        return shown, Mark.ERROR
    if kind in _NUMBERS:
        try:
            number = float(cell.get("value", ""))
            text = number_text(number)
        except (ValueError, OverflowError):
            return shown, None
        if shown.isdecimal() and int(shown) == number:
            return shown, None
        return text, Mark.LONG_NUMBER if abs(number) >= 10**15 else None
    if kind == "date":
        return cell.get("date-value", shown).removesuffix("T00:00:00"), Mark.DATE
    if kind == "time":
        return shown, Mark.DATE
    if kind == "boolean":
        return cell.get("boolean-value", shown).lower(), None
    if cell.get("formula") and not shown:
        return "", Mark.FORMULA
    return shown, None


def _count(text: str | None) -> int:
    return min(int(text), 2**31) if text and text.isdecimal() and len(text) < 11 else 1
