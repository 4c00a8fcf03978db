"""Imports of CSV and XLSX files. Bad rows are reported and do not stop the import."""

from __future__ import annotations

from pathlib import Path

import pytest

from products.models import Product, ProductImage
from tests.helpers.commands import run
from tests.helpers.sample_images import as_file, jpeg, noise, truncated
from tests.helpers.tables import write_csv, write_images, write_xlsx

pytestmark = pytest.mark.django_db

MUG = {
    "SKU": "MUG-1",
    "Name": "Mug, large – Größe 2",
    "category": "Mugs",
    "description": 'Says "hello"\non two lines',
    "is_historical": "true",
    "image": "mug.jpg",
    "Colour": "blue",
    "weight g": "350",
}


def assert_is_mug(product: Product) -> None:
    assert (product.sku, product.name, product.category) == ("MUG-1", "Mug, large – Größe 2", "Mugs")
    assert product.description == 'Says "hello"\non two lines'
    assert product.is_historical is True
    assert product.attributes == {"Colour": "blue", "weight g": "350"}
    assert product.images.get().state == ProductImage.State.READY


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_usual_kind_of_csv_is_read(tmp_path, encoding, delimiter):
    write_images(tmp_path, "mug.jpg")
    table = write_csv(tmp_path / "c.csv", [MUG], delimiter, encoding)
    assert run("import_products", table).code == 0
    assert_is_mug(Product.objects.get())


def test_numbers_and_booleans_of_a_workbook_are_read_as_typed(tmp_path):
    write_images(tmp_path, "mug.jpg")
    table = write_xlsx(tmp_path / "c.xlsx", [MUG | {"is_historical": True, "weight g": 350.0}])
    assert run("import_products", table).code == 0
    assert_is_mug(Product.objects.get())


def test_sku_and_image_are_the_only_required_columns(tmp_path):
    write_images(tmp_path, "a.jpg")
    assert run("import_products", write_csv(tmp_path / "c.csv", [{"sku": "A", "image": "a.jpg"}])).code == 0
    product = Product.objects.get()
    assert (product.sku, product.name, product.is_historical, product.attributes) == ("A", "", False, {})


def test_further_row_with_an_existing_sku_adds_an_image(tmp_path):
    write_images(tmp_path, "front.jpg", "back.jpg", "side.jpg")
    first = [{"sku": "A", "name": "Lamp", "image": "front.jpg"}, {"sku": "A", "name": "", "image": "back.jpg"}]
    assert run("import_products", write_csv(tmp_path / "c.csv", first)).code == 0
    assert run("import_products", write_csv(tmp_path / "views.csv", [{"image": "side.jpg", "sku": "A"}])).code == 0
    product = Product.objects.get()
    assert product.name == "Lamp"
    assert [image.original_name for image in product.images.all()] == ["front.jpg", "back.jpg", "side.jpg"]


@pytest.mark.parametrize(
    ("says", "flag", "expected"),
    [
        ("true", [], True),
        ("Yes", [], True),
        ("1", [], True),
        ("false", [], False),
        ("0", [], False),
        ("", [], False),
        ("", ["--historical"], True),
        ("no", ["--historical"], False),
    ],
)
def test_option_sets_historical_for_rows_that_do_not_say(tmp_path, says, flag, expected):
    write_images(tmp_path, "a.jpg")
    table = write_csv(tmp_path / "c.csv", [{"sku": "A", "image": "a.jpg", "is_historical": says}])
    assert run("import_products", table, *flag).code == 0
    assert Product.objects.get().is_historical is expected


def test_image_paths_are_relative_to_the_table_or_the_given_folder_or_absolute(tmp_path):
    write_images(tmp_path, "tables/in/a.jpg", "elsewhere/b.jpg", "c.jpg")
    by_table = write_csv(tmp_path / "tables" / "a.csv", [{"sku": "A", "image": "in\\a.jpg"}])
    absolute = write_csv(tmp_path / "tables" / "c.csv", [{"sku": "C", "image": str(tmp_path / "c.jpg")}])
    by_folder = write_csv(tmp_path / "tables" / "b.csv", [{"sku": "B", "image": "b.jpg"}])
    assert run("import_products", by_table).code == 0
    assert run("import_products", absolute).code == 0
    assert run("import_products", by_folder, "--images", tmp_path / "elsewhere").code == 0
    assert set(Product.objects.values_list("sku", flat=True)) == {"A", "B", "C"}


def test_bad_rows_are_reported_and_do_not_stop_the_import(tmp_path):
    write_images(tmp_path, "good.jpg", "better.jpg")
    (tmp_path / "broken.jpg").write_bytes(truncated(jpeg(7)))
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "tiny.png").write_bytes(as_file(noise(size=(8, 8)), "PNG"))
    table = tmp_path / "c.csv"
    table.write_text(
        "sku,name,is_historical,image\n"
        "A,first,,good.jpg\n"
        "B,damaged,,broken.jpg\n"
        "C,no image,,text.jpg\n"
        "D,gone,,gone.jpg\n"
        "E,none named,,\n"
        "F,perhaps,perhaps,good.jpg\n"
        "G,one, cell,too,many,good.jpg\n"
        f"{'H' * 201},long,,good.jpg\n"
        "I,small,,tiny.png\n"
        '"J"stray,quote,,good.jpg\n'
        "\n"
        "Z,last,,better.jpg\n"
    )
    ran = run("import_products", table)
    assert ran.code == 3
    reported = dict(
        line.removeprefix("row ").split(" (", 1) for line in ran.err.splitlines() if line.startswith("row ")
    )
    codes = {number: text.split("): ")[1].split(":")[0] for number, text in reported.items()}
    assert codes == {
        "3": "image_corrupt",
        "4": "not_an_image",
        "5": "file_missing",
        "6": "validation_error",
        "7": "validation_error",
        "8": "validation_error",
        "9": "validation_error",
        "10": "image_too_small",
        "11": "validation_error",
    }
    assert "9 rows were refused" in ran.err
    assert set(Product.objects.values_list("sku", flat=True)) == {"A", "Z"}


def test_unclosed_quote_is_reported_at_its_line_and_nothing_is_imported(tmp_path):
    write_images(tmp_path, "a.jpg", "b.jpg")
    table = tmp_path / "c.csv"
    table.write_text('sku,name,image\nA,first,a.jpg\nB,"second,b.jpg\nC,third,a.jpg\n')
    ran = run("import_products", table)
    assert ran.code == 1
    assert "line 3" in ran.err
    assert not Product.objects.exists()


def test_exit_code_is_1_if_every_row_is_rejected(tmp_path):
    ran = run("import_products", write_csv(tmp_path / "c.csv", [{"sku": "A", "image": "gone.jpg"}]))
    assert ran.code == 1
    assert "row 2 (A): file_missing" in ran.err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no column sku and no column image"),
        (b"image,colour\na.jpg,red\n", "no column sku"),
        (b"sku,colour\nA,red\n", "no column image"),
        (b"sku,image\n", "no rows"),
        (b"sku,image,SKU\nA,a.jpg,B\n", "more than one column sku"),
        ("sku,name,image\nA,Größe,a.jpg\n".encode() + b"B,x\xff,a.jpg\n", "line 3 has bytes that are not"),
        (b"sku,image," + b",".join(b"c%d" % number for number in range(100_000)) + b"\nA,a.jpg\n", "100,002 columns"),
        (b"sku,image," + b"a," * 100_000 + b"\nA,a.jpg\n", "columns, more than the limit of 500"),
        (b"sku," + b",".join(b"picture%d" % number for number in range(100_000)) + b"\nA\n", "100,001 columns"),
    ],
)
def test_unusable_table_is_rejected_as_a_whole(tmp_path, content, reason):
    write_images(tmp_path, "a.jpg")
    table = tmp_path / "c.csv"
    table.write_bytes(content)
    ran = run("import_products", table)
    assert ran.code == 1
    assert reason in ran.err
    assert not Product.objects.exists()


def test_wrong_encoding_far_down_is_found_before_the_import_starts(tmp_path):
    write_images(tmp_path, "a.jpg")
    lines = [f"A{number},a.jpg\n".encode() for number in range(5_000)]
    (tmp_path / "c.csv").write_bytes(b"".join([b"sku,image\n", "Ü,a.jpg\n".encode(), *lines, b"\xff,a.jpg\n"]))
    assert run("import_products", tmp_path / "c.csv").code == 1
    assert not Product.objects.exists()


@pytest.mark.parametrize("name", ["gone.csv", "gone.xlsx", "gone"])
def test_missing_path_is_rejected(tmp_path, name):
    ran = run("import_products", tmp_path / name)
    assert ran.code == 1
    assert "There is no file or folder" in ran.err


def test_invalid_workbook_is_rejected(tmp_path):
    (tmp_path / "c.xlsx").write_bytes(b"PK\x03\x04 but nothing more")
    ran = run("import_products", tmp_path / "c.xlsx")
    assert ran.code == 1
    assert "not a readable XLSX" in ran.err


def test_file_of_another_type_is_rejected(tmp_path):
    Path(tmp_path / "c.pdf").write_bytes(b"%PDF-1.7")
    ran = run("import_products", tmp_path / "c.pdf")
    assert ran.code == 1
    assert "neither a CSV, an XLSX, an ODS, a ZIP nor a folder" in ran.err
