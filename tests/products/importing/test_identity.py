"""Keys that a spreadsheet damaged: restored if that is certain, else refused with the reason."""

from __future__ import annotations

import pytest

from core.spreadsheets.sheets import Mark
from products.importing.tables.identity import KeyProfile, restore
from products.models import Product
from tests.helpers.commands import run
from tests.helpers.tables import write_images


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('="00123"', "00123"), ("'00123", "00123"), ("4.006381333931E+12", "4006381333931"), ("1E5", "1E5"),
        ("12E3", "12E3"), ("MAR-24", "MAR-24"), ("#12", "#12"), ("A-1.0", "A-1.0"), ("1234.5", "1234.5"), ("nan", ""),
    ],
)  # fmt: skip
def test_certain_keys_are_restored_or_left_alone(text: str, key: str) -> None:
    assert (restore(text).text, restore(text).problem) == (key, "")


@pytest.mark.parametrize(
    "text",
    [
        "4.00638E+12",
        "4,00638E+12",
        "#N/A",
        "#NV",
        "#REF!",
        "#¡REF!",
        "#####",
        "01-Mar",
        "Mrz 24",
        "01.03.2024",
        "4E-05",
    ],
)
def test_damaged_keys_are_named(text: str) -> None:
    key = restore(text)
    assert key.text == ""
    assert text in key.problem


def test_cells_of_a_spreadsheet_say_more_than_their_text() -> None:
    assert "formula" in restore("", Mark.FORMULA).problem
    assert "date" in restore("2024-03-01", Mark.DATE).problem
    assert "15 digits" in restore("12345678901234500000", Mark.LONG_NUMBER).problem


@pytest.mark.parametrize(
    ("keys", "expected"),
    [(["1234.0", "5.0"], "1234"), (["1234.0", "5"], ""), (["1234.0", "5.5"], "1234.0"), (["1234.0", "A"], "1234")],
)
def test_decimals_that_a_program_added_are_removed_if_all_numbers_have_them(keys: list[str], expected: str) -> None:
    profile = KeyProfile()
    for key in keys:
        profile.add(key)
    assert restore("1234.0", None, profile).text == expected


@pytest.mark.django_db
def test_damaged_and_missing_keys_are_refused_rows_and_merge_nothing(tmp_path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    table = tmp_path / "c.csv"
    table.write_text("SKU,Name,Image\n4.00638E+12,Mug,a.jpg\n4.00638E+12,Cup,b.jpg\n,Bowl,c.jpg\n'007,Jug,d.jpg\n")
    ran = run("import_products", table)
    assert ran.code == 3
    assert ran.err.count("4.00638E+12 is a number that a spreadsheet shortened") == 2
    assert "row 4 (Bowl): validation_error: the row has no SKU in its column SKU" in ran.err
    assert list(Product.objects.values_list("sku", flat=True)) == ["007"]
