"""Read XLSX and XLSM workbooks row by row, as their cells are displayed."""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from typing import IO, Any
from xml.etree.ElementTree import ParseError  # nosec B405 # only an exception

from django.utils.translation import gettext as _

from core.archives import ZIP_ERRORS, open_archive
from core.errors import UnreadableFileError
from core.spreadsheets import sheets
from core.spreadsheets.pictures import Pictures
from core.spreadsheets.sheets import NO_MARKS, Mark, Sheet, SheetRow

# openpyxl reads these parts row by row or not at all. It loads all other parts into memory.
_STREAMED_PARTS = ("xl/worksheets/", "xl/media/", "xl/embeddings/")
MAX_IN_MEMORY_BYTES = 64 * 2**20
MAX_MERGED_RANGES = 200_000
_MAX_EXACT_NUMBER = 10**15  # spreadsheets keep 15 digits and write zeros after them
# What openpyxl raises for damaged workbooks.
XLSX_ERRORS = (*ZIP_ERRORS, ParseError, LookupError, TypeError, AttributeError)
_ZEROS = re.compile(r"0[0 \-/]*")
_FORMULA = re.compile(r"(?:_xlfn\.)?(?:DISPIMG|IMAGE)\(\s*\"([^\"]*)\"", re.IGNORECASE)
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=[\"']([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})[\"']")
_CHUNK = 2**20


def read_workbook(file: IO[bytes], name: str) -> list[Sheet]:
    """Return the sheets: the active one first, hidden ones last. Raises UnreadableFileError."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with open_archive(file) as parts:
            whole = [part for part in parts.infolist() if not part.filename.startswith(_STREAMED_PARTS)]
            if sum(part.file_size for part in whole) > MAX_IN_MEMORY_BYTES:
                text = _("%s holds more text than can be read at once. Save it as “CSV UTF-8”.")
                raise UnreadableFileError(text % name)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parts that are not read
            book: Any = load_workbook(file, read_only=True, data_only=True)
        active = book.active
        ordered = [sheet for sheet in book.worksheets if sheet is not active]
        ordered = ([] if active is None else [active]) + ordered
        # Charts are sheets without rows. The sort is stable, so the active sheet stays first.
        ordered = [sheet for sheet in ordered if hasattr(sheet, "_worksheet_path")]
        ordered.sort(key=lambda sheet: sheet.sheet_state != "visible")
        if not ordered:
            raise UnreadableFileError(_("%s has no sheet.") % name)
        formats = _zero_formats(book)
        found = []
        for sheet in ordered[: sheets.MAX_SHEETS]:
            total = sheet.max_row
            sheet.reset_dimensions()  # some programs write wrong dimensions, which would cut rows
            pictures = Pictures(book._archive, sheet._worksheet_path)
            read = partial(_rows, sheet, name, formats, pictures)
            found.append(Sheet(sheet.title, read, total, has_pictures=pictures.may_exist))
        return found
    except (InvalidFileException, *XLSX_ERRORS) as error:
        text = _("%(file)s is not a readable XLSX workbook: %(reason)s.")
        raise UnreadableFileError(text % {"file": name, "reason": error}) from error


def _rows(sheet: Any, name: str, formats: Mapping[int, str], pictures: Pictures) -> Iterator[SheetRow]:
    try:
        yield from _read_rows(sheet, name, formats, pictures)
    except XLSX_ERRORS as error:
        text = _("%(file)s is damaged and cannot be read to its end: %(reason)s.")
        raise UnreadableFileError(text % {"file": name, "reason": error}) from error


def _read_rows(sheet: Any, name: str, formats: Mapping[int, str], pictures: Pictures) -> Iterator[SheetRow]:
    size, last = 0, 0
    merged = _MergedCells(sheet)
    with closing(sheet._get_source()) as source, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about extensions that are not read
        parser = _parser(sheet, source)
        for number, cells in parser.parse():
            # A damaged workbook can claim endless rows, or the same row again and again.
            if number > sheets.MAX_SHEET_ROWS:
                return
            if number <= last:
                continue
            last = number
            width = cells[-1]["column"] if cells else 0
            size += width
            texts = [""] * width if size <= sheets.MAX_WORKBOOK_SIZE else []
            marks: dict[int, Mark] = {}
            parts = list(pictures.of_row(number))
            if texts:
                for cell in cells:
                    column = cell["column"] - 1
                    if not 0 <= column < width:
                        continue
                    texts[column], mark = _displayed(cell, formats)
                    if mark is not None:
                        marks[column] = mark
                    if cell.get("picture"):
                        part = pictures.of_cell(cell["picture"])
                        parts += [part] if part else []
                        texts[column] = "" if part or not cell["picture"].startswith("http") else cell["picture"]
                        marks.pop(column, None)
            size += sum(map(len, texts))
            if size > sheets.MAX_WORKBOOK_SIZE:
                text = _("%s holds more text than a table may have. Split it, or save it as “CSV UTF-8”.")
                raise UnreadableFileError(text % name)
            size += merged.fill(number, texts)
            yield SheetRow(number, texts, marks or NO_MARKS, tuple(dict.fromkeys(parts)))


def _parser(sheet: Any, source: IO[bytes]) -> Any:
    from openpyxl.worksheet._reader import FORMULA_TAG, WorkSheetParser

    class Parser(WorkSheetParser):
        """Also tell formulas without a value, and images in cells."""

        def parse_cell(self, element: Any) -> dict[str, Any]:
            cell: dict[str, Any] = super().parse_cell(element)
            formula = element.find(FORMULA_TAG)
            if formula is not None:
                image = _FORMULA.search(formula.text or "")
                if image:
                    cell["picture"] = image[1]
                elif cell["value"] is None and element.get("t") != "str":
                    cell["mark"] = Mark.FORMULA
            if element.get("vm") and cell["data_type"] == "e" and not cell.get("picture"):
                cell["picture"] = f"vm{element.get('vm')}"
            return cell

    parent = sheet.parent
    return Parser(
        source, sheet._shared_strings, data_only=True, epoch=parent.epoch,
        date_formats=parent._date_formats, timedelta_formats=parent._timedelta_formats,
    )  # fmt: skip


def _zero_formats(book: Any) -> dict[int, str]:
    """Return the number formats that only pad with zeros, such as 00000, by style."""
    from openpyxl.styles.numbers import BUILTIN_FORMATS, BUILTIN_FORMATS_MAX_SIZE

    formats = {}
    for style, cell_style in enumerate(book._cell_styles):
        number = cell_style.numFmtId
        if number < BUILTIN_FORMATS_MAX_SIZE:
            code = BUILTIN_FORMATS.get(number, "")
        else:
            custom = book._number_formats
            index = number - BUILTIN_FORMATS_MAX_SIZE
            code = custom[index] if index < len(custom) else ""
        code = re.sub(r"[\"\\]", "", code.split(";")[0])
        if len(code) > 1 and len(code) < 100 and _ZEROS.fullmatch(code):
            formats[style] = code
    return formats


def _displayed(cell: Mapping[str, Any], formats: Mapping[int, str]) -> tuple[str, Mark | None]:
    value = cell["value"]
    if value is None:
        return "", cell.get("mark")
    if cell["data_type"] == "e":
        return str(value), Mark.ERROR
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = number_text(value)
        if text.isdecimal() and (code := formats.get(cell["style_id"])):
            return _padded(text, code), None
        return text, Mark.LONG_NUMBER if abs(value) >= _MAX_EXACT_NUMBER else None
    is_date = isinstance(value, datetime.date | datetime.time | datetime.timedelta)
    return _text(value), Mark.DATE if is_date else None


def _padded(digits: str, code: str) -> str:
    """Return the digits as a format such as 00-000 shows them."""
    rest = list(digits)
    shown = [(rest.pop() if rest else "0") if char == "0" else char for char in reversed(code)]
    return "".join(rest) + "".join(reversed(shown))


def number_text(value: float) -> str:
    """Return a number as spreadsheets display it: 15 digits, and no decimals that are zero."""
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    return f"{value:.15g}"


def _text(value: object) -> str:
    """Return a cell as a user would have typed it into a CSV."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()  # XLSX has no dates without a time
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value).strip()


class _MergedCells:
    """Cells that are merged over several rows: their text belongs to each of the rows."""

    def __init__(self, sheet: Any) -> None:
        from openpyxl.utils import column_index_from_string

        found = []
        for left, top, _right, bottom in islice(_merged_ranges(sheet), MAX_MERGED_RANGES):
            if int(top) < int(bottom):
                found.append((int(top), int(bottom), column_index_from_string(left.decode()) - 1))
        self.ranges = iter(sorted(found))
        self.next = next(self.ranges, None)
        self.open: dict[int, tuple[int, str]] = {}

    def fill(self, number: int, texts: list[str]) -> int:
        """Write the texts of merged cells into their further rows. Return the number of characters."""
        added = 0
        if any(texts):
            for column, (bottom, text) in list(self.open.items()):
                if number > bottom:
                    del self.open[column]
                elif column < len(texts) and not texts[column]:
                    texts[column] = text
                    added += len(text)
        while self.next is not None and self.next[0] <= number:
            top, bottom, column = self.next
            if top == number and column < len(texts) and texts[column]:
                self.open[column] = (bottom, texts[column])
            self.next = next(self.ranges, None)
        return added


def _merged_ranges(sheet: Any) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Yield the merged ranges, which XLSX writes after the rows."""
    with closing(sheet._get_source()) as source:
        rest = b""
        while chunk := source.read(_CHUNK):
            data = rest + chunk
            end = 0
            for match in _MERGED.finditer(data):
                yield match.groups()  # type: ignore[misc]
                end = match.end()
            rest = data[max(end, len(data) - 200) :]
