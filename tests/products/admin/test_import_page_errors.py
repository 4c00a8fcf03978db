"""Unusual and bad files on the import page: usable rows are imported, the others get a reason."""

from __future__ import annotations

import datetime
import io
import stat
import zipfile

import pytest
from django.test import Client
from openpyxl import Workbook

from products.models import Import, Product
from tests.helpers.files import files_in
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import rows_as_csv
from tests.helpers.web.import_page import ImportPage, zipped

pytestmark = pytest.mark.django_db(transaction=True)

MUG = {"SKU": "MUG", "Name": "Mug – Größe 2", "colour": "blue; green"}
LONG = "x" * 10_000


@pytest.fixture
def browser() -> Client:
    return browser_of("uploader")


def workbook(*sheets: list[list[object]]) -> bytes:
    book = Workbook()
    for number, rows in enumerate(sheets):
        sheet = book.active if number == 0 else book.create_sheet()
        assert sheet is not None
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def with_sheet(xml: str) -> bytes:
    """Return a workbook whose sheet is this XML."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook([["x"]]))) as good, zipfile.ZipFile(buffer, "w", 8) as bad:
        for name in good.namelist():
            bad.writestr(name, xml if name == "xl/worksheets/sheet1.xml" else good.read(name))
    return buffer.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_usual_kind_of_csv_is_read(browser, encoding, delimiter):
    product = make_product(sku="MUG")
    upload = ImportPage(browser, {"list.csv": rows_as_csv([MUG], delimiter).encode(encoding)}).confirm()
    assert upload.counts() == {"UPDATED": 1}
    product.refresh_from_db()
    assert (product.name, product.attributes) == ("Mug – Größe 2", {"colour": "blue; green"})


def test_unknown_column_is_reported_with_a_suggestion(browser):
    error = ImportPage(browser, {"list.csv": "Sk,Imgae,Naem\nA,a.jpg,Mug\n"}).error
    assert "list.csv has no column sku" in error
    assert "it reads: Sk, Imgae, Naem" in error
    assert "Was “Sk” as sku meant?" in error
    shown = ImportPage(browser, {"list.csv": "sku,Naem\nA,Mug\n"}).context()
    assert shown["columns"][1] == {"name": "Naem", "role": "attribute", "examples": ["Mug"], "suggestion": "name"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("list.csv", b"", "no column sku"),
        ("list.csv", "sku,name\nA,Größe\n".encode() + b"\xff,b\n", "Save it again as “CSV UTF-8”"),
        ("list.csv", b"sku,SKU\nA,B\n", "more than one column sku"),
        ("list.csv", b"PK\x03\x04\x00\xff", "not a readable XLSX"),
        ("list.xls", b"\xd0\xcf\x11\xe0", "as XLSX or “CSV UTF-8”"),
        ("list.xlsx", b"sku,name\n", "not a readable XLSX"),
        ("list.xlsx", workbook([], []), "no column sku"),
        ("list.xlsx", workbook([], [["colour"]]), "no column sku"),
        ("list.csv", b"sku," + b"a," * 100_000 + b"\nA\n", "columns, more than the limit of 500"),
        ("list.xlsx", workbook([["sku", *range(501)]], []), "502 columns"),
        ("list.xlsx", zipped({"xl/worksheets/sheet1.xml": bytes(80 * 2**20)}), "100 times its size"),
        ("list.xlsx", zipped({"xl/sharedStrings.xml": bytes(70 * 2**20), "noise": jpeg(1)}), "100 times"),
        ("all.zip", b"PK\x03\x04", "not a readable ZIP"),
        ("all.zip", zipped({"a.csv": "sku\n", "b.csv": "sku\n"}), "several tables"),
        ("all.zip", zipped({f"{number}.bmp": bytes(16 * 2**20) for number in range(5)}), "100 times its size"),
        ("all.zip", zipped({f"{number}.jpg": "" for number in range(10_001)}), "10,001 entries"),
    ],
)  # fmt: skip
def test_unusable_files_are_rejected_on_the_import_page(browser, imports_root, name, content, reason):
    assert reason in ImportPage(browser, {name: content}).error
    assert not Import.objects.exists()
    assert files_in(imports_root) == []


def test_table_without_a_key_waits_until_a_user_chooses_its_columns(browser):
    upload = ImportPage(browser, {"list.xlsx": workbook([], [["colour"], ["A"]])})
    assert "list.xlsx has no column sku" in upload.error
    job = Import.objects.get()
    assert f"/admin/products/product/import/{job.pk}/" in upload.response.content.decode()
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    "files", [{"list.csv": "sku,name\n"}, {"list.csv": "sku,name\n\n,\n"}, {"all.zip": zipped({".hidden": "x"})}]
)
def test_file_without_rows_is_reported(browser, files):
    page = browser.get(ImportPage(browser, files).page).content.decode()
    assert "contains no rows and no images." in page


def test_workbook_cells_are_read_as_they_are_displayed(browser):
    product = make_product(sku="7", attributes={"old": "x"})
    rows: list[list[object]] = [
        ["sku", "weight", "since", "sum", "ok", "empty"],
        [7, 2.50, datetime.date(2026, 1, 2), "=1+1", True, None],
    ]
    assert ImportPage(browser, {"list.xlsx": workbook(rows, [])}).confirm().counts() == {"UPDATED": 1}
    product.refresh_from_db()
    # The formula was never computed, so its cell has no value.
    assert product.attributes == {"old": "x", "weight": "2.5", "since": "2026-01-02", "ok": "true"}


def test_workbook_that_claims_endless_rows_is_read_to_its_last_row(browser):
    row = '<row r="{}"><c r="A{}" t="inlineStr"><is><t>{}</t></is></c></row>'
    rows = row.format(1, 1, "sku") + row.format(2, 2, "A") + row.format(10**12, 10**12, "B")
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sheet = with_sheet(f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>')
    assert list(ImportPage(browser, {"list.xlsx": sheet}).reasons()) == [2]


def test_zip_entry_cannot_reach_outside_the_zip(browser, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(jpeg(9))
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good.jpg", jpeg(1))
        archive.writestr("../up.jpg", jpeg(2))
        archive.writestr("/root.jpg", jpeg(3))
        archive.writestr(link, str(tmp_path / "secret.jpg"))
    before = files_in(tmp_path)
    upload = ImportPage(browser, {"all.zip": buffer.getvalue()})
    assert upload.counts() == {"CREATED": 1, "REJECTED": 3}
    assert {name for name in files_in(tmp_path) if not name.startswith("imports/")} == set(before)
    assert upload.confirm().counts() == {"CREATED": 1, "REJECTED": 3}
    assert list(Product.objects.values_list("sku", flat=True)) == ["good"]


def test_zip_of_ten_thousand_entries_is_read(browser):
    files: dict[str, bytes | str] = {f"unused/{number}.txt": "" for number in range(9_998)}
    files |= {"list.csv": rows_as_csv([{"sku": "A", "image": "a.jpg"}]), "a.jpg": jpeg(1)}
    assert ImportPage(browser, {"all.zip": zipped(files)}).confirm().counts() == {"CREATED": 1}


def test_markup_and_any_script_are_shown_as_text(browser):
    product = make_product(sku="A")
    name = "<script>alert(1)</script> שלום 😀"
    upload = ImportPage(browser, {"<b>.csv": rows_as_csv([{"sku": "A", "name": name}, {"sku": name, "name": "x"}])})
    for kind in ("UPDATED", "REJECTED"):
        page = browser.get(upload.page, {"kind": kind}).content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt; שלום 😀" in page
        assert "<script>alert" not in page
        assert "&lt;b&gt;.csv" in page
    upload.confirm()
    product.refresh_from_db()
    assert product.name == name


def test_row_with_too_long_text_is_rejected_and_kept_for_correction(browser):
    make_product(sku="A")
    rows = [{"sku": "A", "name": LONG}, {"sku": LONG, "name": "x"}, {"sku": "A", "description": LONG, "note": LONG}]
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows)}).confirm()
    reasons = upload.reasons()
    assert "name: Ensure this value has at most 500 characters (it has 10000)." in reasons[2]
    assert "sku: Ensure this value has at most 200 characters (it has 10000)." in reasons[3]
    assert [row["name"] for row in upload.rejected_rows()] == [LONG, "x"]
    assert Product.objects.get().description == Product.objects.get().attributes["note"] == LONG
    assert len(browser.get(upload.page).content) < 100_000


def test_many_rows_are_checked_and_imported(browser):
    rows = 20_000
    products = [Product(sku=f"S{number}", name=f"name {number}", category="mugs") for number in range(rows)]
    Product.objects.bulk_create(products, batch_size=5_000)
    lines = [f"S{number},{'renamed' if number % 1000 == 0 else f'name {number}'},mugs\n" for number in range(rows)]
    upload = ImportPage(browser, {"list.csv": "sku,name,category\n" + "".join(lines) + "GONE,x,y\n"})
    expected = {"UPDATED": 20, "SKIPPED": rows - 20, "REJECTED": 1}
    assert upload.counts() == expected
    assert upload.context("SKIPPED", 400)["rows"][-1]["label"] == "S19999"
    assert upload.confirm().counts() == expected
    assert Product.objects.filter(name="renamed").count() == 20
