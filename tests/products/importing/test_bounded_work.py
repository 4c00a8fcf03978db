"""Tables and ZIPs that are small and would make much work are refused, and the work is counted."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from core import archives
from core.errors import UnreadableFileError
from core.spreadsheets import reader, sheets, text
from core.spreadsheets import workbook as workbook_reader
from products.importing.image_sources import open_zip
from tests.helpers.rows import browser_of
from tests.helpers.web.import_page import ImportPage

SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"
HEADER = '<row r="1"><c r="A1" t="inlineStr"><is><t>sku</t></is></c></row>'


def workbook(rows: Iterable[str], shared: str = "") -> bytes:
    """Return a workbook with exactly these rows, as no spreadsheet program would write them."""
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        f'<Override PartName="/xl/workbook.xml" ContentType="{CONTENT}.sheet.main+xml"/>'
        f'<Override PartName="/xl/sharedStrings.xml" ContentType="{CONTENT}.sharedStrings+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{DOCUMENT}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {SHEET} xmlns:r="{DOCUMENT}">'
        '<sheets><sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{DOCUMENT}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/sharedStrings.xml": f"<sst {SHEET}>{shared}</sst>",
        "xl/worksheets/sheet1.xml": f"<worksheet {SHEET}><sheetData>{HEADER}{''.join(rows)}</sheetData></worksheet>",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def read(data: bytes, name: str) -> int:
    """Read a table to its end. Return the number of its rows."""
    return sum(1 for _ in reader.read_table(io.BytesIO(data), name, ["sku"]).rows)


@pytest.mark.parametrize(
    "row",
    [b"," * 300, b"x" * 300, b'"a\n",' * 60, b",".join([b"abcdefghi"] * 30)],
    ids=["commas", "one cell", "quoted lines", "cells"],
)
@pytest.mark.parametrize("is_header", [True, False])
def test_endless_row_of_a_csv_is_refused(monkeypatch: pytest.MonkeyPatch, row: bytes, is_header: bool) -> None:
    monkeypatch.setattr(sheets, "MAX_ROW_CHARACTERS", 250)
    table = b"sku," + row + b"\nA,b\n" if is_header else b"sku,name\nA,b\n" + row + b"\n"
    with pytest.raises(UnreadableFileError, match="a row of more than 250 characters"):
        read(table, "t.csv")


class Counted(io.BytesIO):
    """A file that counts what is read from it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data

    def read1(self, size: int | None = -1) -> bytes:
        data = super().read1(size)
        self.count += len(data)
        return data


def test_endless_row_is_not_read_to_its_end() -> None:
    file = Counted(b"sku,name\n" + b"," * (10 * sheets.MAX_ROW_CHARACTERS))
    with pytest.raises(UnreadableFileError, match="a row of more than"):
        reader.read_table(file, "t.csv", ["sku"])
    assert 0 < file.count < 2 * sheets.MAX_ROW_CHARACTERS


def test_long_rows_within_the_limit_are_read() -> None:
    cells = ",".join(["x" * 2000] * 400)
    assert read(f"sku,{','.join(map(str, range(399)))}\n{cells}\n".encode(), "t.csv") == 1


def test_csv_of_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_ROWS", 20)
    assert read(b"sku\n" + b"A\n" * 20, "t.csv") == 20
    for line in (b"A\n", b"\n"):
        with pytest.raises(UnreadableFileError, match="more than 20 rows"):
            read(b"sku\n" + line * 21, "t.csv")


def test_workbook_that_repeats_one_long_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_WORKBOOK_SIZE", 1_000_000)
    rows = [f'<row r="{number}"><c r="A{number}" t="s"><v>0</v></c></row>' for number in range(2, 200)]
    data = workbook(rows, f"<si><t>{'x' * 100_000}</t></si>")
    assert len(data) < 10_000
    with pytest.raises(UnreadableFileError, match="more text than a table may have"):
        read(data, "t.xlsx")


def test_workbook_with_cells_far_to_the_right_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_WORKBOOK_SIZE", 1_000_000)
    rows = [f'<row r="{number}"><c r="ZZZ{number}"><v>1</v></c></row>' for number in range(2, 200)]
    widths = []
    monkeypatch.setattr(workbook_reader, "SheetRow", lambda number, cells, *rest: widths.append(len(cells)))
    with pytest.raises(UnreadableFileError, match="more text than a table may have"):
        list(workbook_reader.read_workbook(io.BytesIO(workbook(rows)), "t.xlsx")[0].read())
    assert sum(widths) < 1_100_000, "of 3,600,000 cells"


@pytest.mark.parametrize("row", [2**31, 10**12])
def test_workbook_with_a_row_far_below_has_no_more_rows_than_a_sheet(row: int) -> None:
    assert read(workbook([f'<row r="{row}"><c r="A{row}"><v>1</v></c></row>']), "t.xlsx") == 0


def zip_of(count: int, name: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(count):
            archive.writestr(f"{name}{number}", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("count", "name", "claimed"),
    [(11_000, "", None), (66_000, "", None), (11_000, "", 3), (200, "folder/" * 9000, None)],
    ids=["entries", "more than 65,535 entries", "a count that lies", "long names"],
)
def test_list_of_a_zip_is_not_read_if_it_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, name: str, claimed: int | None
) -> None:
    monkeypatch.setattr(archives, "MAX_LIST_BYTES", 500_000)
    data = bytearray(zip_of(count, name))
    if claimed is not None:
        end = data.rindex(b"PK\x05\x06")
        data[end + 8 : end + 12] = claimed.to_bytes(2, "little") * 2
    path = tmp_path / "images.zip"
    path.write_bytes(data)
    made: list[object] = []
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: made.append(1))
    with pytest.raises(UnreadableFileError, match="entries or very long names"), open_zip(path):
        pass
    assert made == []


def test_zip_of_exactly_as_many_entries_as_allowed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(zip_of(archives.MAX_ENTRIES, "folder/of/images/"))
    with open_zip(path) as source:
        assert len(source.names()) == archives.MAX_ENTRIES


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", b"sku,name\n" + b"," * (sheets.MAX_ROW_CHARACTERS + 1)),
        ("t.zip", zip_of(archives.MAX_ENTRIES + 1)),
        ("t.xlsx", zip_of(archives.MAX_ENTRIES + 1)),
    ],
    ids=["row", "ZIP", "XLSX"],
)
def test_import_page_says_why_such_a_file_is_refused(name: str, data: bytes) -> None:
    error = ImportPage(browser_of("uploader"), {name: data}).error
    assert "a row of more than 4,194,304 characters" in error or "10,001 entries" in error
