"""Tables for spreadsheet programs, written row by row in bounded memory: CSV and XLSX, with cells that run nothing."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape

Cell = str | int | float | None

# By the specification of XLSX.
XLSX_MAX_ROWS = 1_048_576
XLSX_MAX_CELL_LENGTH = 32_767

_CHUNK = 2**16
# What spreadsheet programs take for the beginning of a formula (OWASP, "CSV Injection"). Whatever already begins
# with apostrophes before it gets one more, so that taking one off again always gives what it was.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
# What XML 1.0 cannot hold. A tab and line ends it can.
INVALID_XML_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")

_PARTS = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml"'
        ' ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml"'
        ' ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1"'
        ' Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"'
        ' Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1"'
        ' Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"'
        ' Target="worksheets/sheet1.xml"/></Relationships>'
    ),
    "xl/workbook.xml": (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
        ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<sheets><sheet name="CatalogMatch" sheetId="1" r:id="rId1"/></sheets></workbook>'
    ),
}
_SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    '<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" state="frozen"/></sheetView>'
    "</sheetViews><sheetData>"
)
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def escape_formula(text: str) -> str:
    """The text as a cell that runs nothing: behind an apostrophe where it looks like a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """The text that ``harmless`` made the cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_bytes(rows: Iterable[Iterable[Cell]]) -> Iterator[bytes]:
    """The rows as CSV in pieces: commas, UTF-8 with the byte order mark by which Excel knows it."""
    buffer = io.StringIO(newline="")
    buffer.write("\ufeff")
    writer = csv.writer(buffer)
    for row in rows:
        writer.writerow([escape_formula(cell) if isinstance(cell, str) else cell for cell in row])
        if buffer.tell() >= _CHUNK:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def xlsx_bytes(rows: Iterable[Iterable[Cell]]) -> Iterator[bytes]:
    """The rows as a workbook of one sheet in pieces, the first of them before the last row is asked for.

    Texts are cells of text and numbers are numbers. Controls that XML cannot hold are left out. Whoever calls keeps
    to XLSX_ROWS and to XLSX_CELL characters a cell.
    """
    target = _Pieces()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, part in _PARTS.items():
            archive.writestr(name, _XML + part)
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write((_XML + _SHEET).encode())
            for row in rows:
                sheet.write(f"<row>{''.join(map(_xlsx_cell, row))}</row>".encode())
                if target.size >= _CHUNK:
                    yield target.take()
            sheet.write(b"</sheetData></worksheet>")
    yield target.take()


def _xlsx_cell(cell: Cell) -> str:
    if cell is None or cell == "":
        return "<c/>"
    if not isinstance(cell, str):
        return f"<c><v>{cell}</v></c>"
    # A carriage return is a line end to whoever reads XML, unless it is spelt out.
    text = escape(INVALID_XML_CHARACTERS.sub("", escape_formula(cell)), {"\r": "&#13;"})
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


class _Pieces(io.RawIOBase):
    """What a ZIP is written into when nobody can seek in it: keeps what was not taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # zipfile writes bytes and nothing else
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def take(self) -> bytes:
        taken, self._pieces, self.size = b"".join(self._pieces), [], 0
        return taken
