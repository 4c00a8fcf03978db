"""Read the first table of a web page. Some systems write one under a name that ends in .xls."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import IO

from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from core.spreadsheets import sheets
from core.spreadsheets.sheets import Sheet, SheetRow

_CHUNK = 2**16


def read_html(file: IO[bytes], name: str) -> Sheet:
    """Read a table of a page in UTF-8 or Windows-1252. Raises UnreadableFileError."""
    return Sheet(name, lambda: _rows(file, name))


def _rows(file: IO[bytes], name: str) -> Iterator[SheetRow]:
    file.seek(0)
    parser = _Table(name)
    while chunk := file.readline(_CHUNK):
        try:
            parser.feed(chunk.decode())
        except UnicodeDecodeError:
            parser.feed(chunk.decode("cp1252", "replace"))
        if len(parser.rawdata) > sheets.MAX_ROW_CHARACTERS:  # a tag without an end, which is scanned again and again
            raise UnreadableFileError(parser.too_large())
        for cells in parser.rows:
            parser.number += 1
            yield SheetRow(parser.number, cells)
        parser.rows.clear()


class _Table(HTMLParser):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.number = 0
        self.rows: list[list[str]] = []
        self.cells: list[str] | None = None
        self.pieces: list[str] | None = None
        self.size = self.total = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._end_row()
            self.cells, self.size = [], 0
        elif tag in ("td", "th") and self.cells is not None:
            self._end_cell()
            self.pieces = []
        elif tag == "br" and self.pieces is not None:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._end_cell()
        elif tag in ("tr", "table"):
            self._end_row()

    def handle_data(self, data: str) -> None:
        if self.pieces is not None:
            self.pieces.append(data)
            self._count(len(data))

    def too_large(self) -> str:
        return _("%s holds more text than a table may have. Save it as “CSV UTF-8”.") % self.name

    def _count(self, characters: int) -> None:
        self.size += characters
        self.total += characters
        if self.size > sheets.MAX_ROW_CHARACTERS or self.total > sheets.MAX_WORKBOOK_SIZE:
            raise UnreadableFileError(self.too_large())

    def _end_cell(self) -> None:
        if self.pieces is not None and self.cells is not None:
            self._count(1)
            self.cells.append("".join(self.pieces).strip())
        self.pieces = None

    def _end_row(self) -> None:
        self._end_cell()
        if self.cells:
            self.rows.append(self.cells)
        self.cells = None
