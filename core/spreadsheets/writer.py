"""Write tables for spreadsheet programs row by row: CSV and XLSX, with formulas made harmless."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape  # nosec B406 # it reads nothing

Cell = str | int | float | None

# Limits of the XLSX specification.
XLSX_MAX_ROWS = 1_048_576
XLSX_MAX_CELL_LENGTH = 32_767

_CHUNK = 2**16
# What spreadsheet programs take for the start of a formula (OWASP, "CSV Injection"). Leading apostrophes are part of
# the pattern, so that removing one apostrophe always restores the original text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
# XML 1.0 cannot hold these. Tabs and line ends are allowed.
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
    """Return the text with an apostrophe in front if it looks like a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """Return the text that ``escape_formula`` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_bytes(rows: Iterable[Iterable[Cell]]) -> Iterator[bytes]:
    """Yield the rows as CSV: commas, UTF-8 with the byte order mark that Excel needs."""
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
    """Yield the rows as a workbook of one sheet, streamed.

    Text stays text and numbers stay numbers. Characters that XML cannot hold are left out. The caller must keep to
    XLSX_MAX_ROWS and XLSX_MAX_CELL_LENGTH.
    """
    target = _StreamBuffer()
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
    # XML parsers turn a carriage return into a line end unless it is written as an entity.
    text = escape(INVALID_XML_CHARACTERS.sub("", escape_formula(cell)), {"\r": "&#13;"})
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


class _StreamBuffer(io.RawIOBase):
    """A target for ZipFile that cannot seek. It keeps the bytes until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # zipfile writes only bytes
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def take(self) -> bytes:
        taken, self._pieces, self.size = b"".join(self._pieces), [], 0
        return taken
