"""Tables as programs write them: encodings, quoting, headers, sheets, pictures and bounds."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from openpyxl import Workbook
from openpyxl.drawing.image import Image

from core.errors import UnreadableFileError
from core.spreadsheets import sheets
from core.spreadsheets.reader import Table, read_table
from core.spreadsheets.sheets import Mark
from tests.helpers.sample_images import jpeg

OFFICE = "urn:oasis:names:tc:opendocument:xmlns:"


def read(data: bytes, name: str = "t.csv") -> Table:
    return read_table(io.BytesIO(data), name, known=["sku", "name", "image"])


def cells(data: bytes, name: str = "t.csv") -> list[list[str]]:
    return [list(row.values) for row in read(data, name).rows]


def saved(book: Any) -> bytes:
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def ods(rows: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "content.xml",
            f'<o:document-content xmlns:o="{OFFICE}office:1.0" xmlns:t="{OFFICE}table:1.0" xmlns:x="{OFFICE}text:1.0">'
            f'<o:body><o:spreadsheet><t:table t:name="A">{rows}</t:table></o:spreadsheet></o:body>'
            "</o:document-content>",
        )
    return buffer.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "mac_roman", "utf-16"])
def test_encodings_of_western_europe_are_told_apart(encoding: str) -> None:
    text = "sku;name\nA;Grüne Tasse für Café – 5 °C\n"
    assert cells(text.encode(encoding)) == [["A", "Grüne Tasse für Café – 5 °C"]]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"sep=;\nsku;name\nA;x,y\n", [["A", "x,y"]]),
        (b"sku|name\nA|x\n", [["A", "x"]]),
        (b'sku,name\nA,"12\\" plate"\nB,"C:\\x"\n', [["A", '12" plate'], ["B", "C:\\x"]]),
        (b'sku\tname\nA\t"Le Bon" x\nB\t"Bon\nC\t12"\n', [["A", '"Le Bon" x'], ["B", '"Bon'], ["C", '12"']]),
        (b'"\xef\xbb\xbfSKU"," Name\xc2\xa0"\nA,x\n', [["A", "x"]]),
        (b"Price list,\n,\nsku,name\nA,x\n", [["A", "x"]]),
        (b"sku,name\nA," + b"x" * 200_000 + b"\n", [["A", "x" * 200_000]]),
    ],
)
def test_text_is_read_as_its_program_wrote_it(data: bytes, expected: list[list[str]]) -> None:
    assert cells(data) == expected


def test_feed_is_a_table_whose_columns_are_its_elements() -> None:
    feed = (
        b'<rss xmlns:g="http://base.google.com/ns/1.0"><channel><item><g:id>A</g:id><title>Mug &amp; Cup</title>'
        b"<g:image_link>1.jpg</g:image_link><g:image_link>2.jpg</g:image_link></item></channel></rss>"
    )
    assert read(feed, "f.xml").columns == ["id", "title", "image_link"]
    assert cells(feed, "f.xml") == [["A", "Mug & Cup", "1.jpg | 2.jpg"]]


@pytest.mark.parametrize(
    "data",
    [
        b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaa">]><rss><item><id>&a;</id></item></rss>',
        b"<rss><item><id>A</id>",
        b"<rss><channel></channel></rss>",
    ],
)
def test_xml_that_is_no_feed_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableFileError):
        read(data, "f.xml")


def test_workbook_keeps_zeros_merged_texts_and_says_what_was_not_typed() -> None:
    book = Workbook()
    book.create_sheet("Notes").append(["Read me"])
    sheet = book.create_sheet("Products")
    sheet.append(["SKU", "Name", "Image"])
    sheet.append([123, "Mug", "a.jpg"])
    sheet.append([None, None, "b.jpg"])
    sheet.append([12345678901234567890, 0.1 + 0.2, '=A2&".jpg"'])
    sheet["A2"].number_format = "00000"
    sheet.merge_cells("A2:A3")
    table = read(saved(book), "t.xlsm")
    rows = list(table.rows)
    assert [list(row.values) for row in rows[:2]] == [["00123", "Mug", "a.jpg"], ["00123", "", "b.jpg"]]
    assert rows[2].values[1] == "0.3"
    assert dict(rows[2].marks) == {0: Mark.LONG_NUMBER, 2: Mark.FORMULA}
    assert "Products" in table.note


def test_images_of_a_sheet_belong_to_their_rows() -> None:
    book = Workbook()
    sheet: Any = book.active
    for row in (["SKU", "Image"], ["A", None], ["B", None]):
        sheet.append(row)
    for number in (2, 3):
        sheet.add_image(Image(io.BytesIO(jpeg(number))), f"B{number}")
    pictures = [row.pictures for row in read(saved(book), "t.xlsx").rows]
    assert pictures == [("xl/media/image1.jpeg",), ("xl/media/image2.jpeg",)]


def test_spreadsheet_of_libreoffice_is_read() -> None:
    text = '<t:table-cell o:value-type="string"><x:p>{}</x:p></t:table-cell>'
    number = '<t:table-cell o:value-type="float" o:value="123"><x:p>00123</x:p></t:table-cell>'
    rows = (
        f"<t:table-row>{text.format('sku')}{text.format('name')}</t:table-row>"
        f'<t:table-row>{number}{text.format("Mug")}<t:table-cell t:number-columns-repeated="16000"/></t:table-row>'
        '<t:table-row t:number-rows-repeated="1048000"><t:table-cell t:number-columns-repeated="1024"/></t:table-row>'
    )
    assert cells(ods(rows), "t.ods") == [["00123", "Mug"]]


def test_spreadsheet_that_repeats_a_row_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_WORKBOOK_SIZE", 100_000)
    cell = '<t:table-cell o:value-type="string"><x:p>sku</x:p></t:table-cell>'
    with pytest.raises(UnreadableFileError, match="more text than a table may have"):
        cells(ods(f'<t:table-row t:number-rows-repeated="1000000">{cell}</t:table-row>'), "t.ods")


def test_page_that_is_called_a_workbook_is_read() -> None:
    page = b"<html><table><tr><th>SKU</th><th>Name</th></tr><tr><td>A</td><td>x &amp; y</td></tr></table></html>"
    assert cells(page, "t.xls") == [["A", "x & y"]]
