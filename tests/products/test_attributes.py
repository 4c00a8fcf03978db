"""The schema of attributes at every door: API, forms, imports and the functions behind them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.core.exceptions import ValidationError

from catalogmatch.demo.catalogue import demo_products
from products.attributes import MAX_BYTES, clean_attributes, read_attributes
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.importing.importer import RowStatus, import_rows
from products.importing.rows import open_source
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_product, save_product
from tests.helpers.sample_images import jpeg
from tests.helpers.web.import_page import ImportPage, zipped

pytestmark = pytest.mark.django_db(transaction=True)


def lists(depth: int) -> Any:
    """Return a value of so many nested lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ALLOWED = {
    "four levels": {"a": lists(3)},
    "objects": {"a": {"b": {"c": {"d": 1}}}},
    "500 entries": {f"n{number}": number for number in range(500)},
    "longest name": {"n" * 200: "x"},
    "longest text": {"a": "é" * 20_000},
    "64 KiB": {f"n{number}": "x" * 16_000 for number in range(4)},
    "one long list": {"a": [0] * 20_000},
    "integer of many digits": {"a": 10**400},
}
REFUSED = {
    "five levels": ({"a": lists(4)}, "nested too deeply"),
    "30 levels": ({"a": lists(30)}, "nested too deeply"),
    "five levels of objects": ({"a": {"b": {"c": {"d": {}}}}}, "nested too deeply"),
    "501 entries": ({f"n{number}": number for number in range(501)}, "at most 500 attributes"),
    "long name": ({"n" * 201: "x"}, "The limit is 200"),
    "long name inside": ({"a": [{"n" * 201: "x"}]}, "The limit is 200"),
    "long text": ({"a": "é" * 20_001}, "The limit is 20000"),
    "long text inside": ({"a": [{"b": "x" * 20_001}]}, "The limit is 20000"),
    "over 64 KiB": ({f"n{number}": "x" * 16_500 for number in range(4)}, "64 KiB"),
    "over 64 KiB in bytes": ({f"n{number}": "€" * 5500 for number in range(4)}, "64 KiB"),
    "long list": ({"a": [0] * 25_000}, "64 KiB"),
    "null character": ({"a": ["\0"]}, "Null characters"),
    "null character in a name": ({"a\0": 1}, "Null characters"),
    "half a pair": ({"a": {"\ud83d": 1}}, "valid Unicode"),
    "list": (["a"], "names and values"),
    "text": ("a", "names and values"),
}
NOT_FINITE = {"infinite": '{"a": 1e999}', "negative": '{"a": [-1e999]}'}
# Bodies that are refused before anything looks at the attributes.
UNREADABLE = {
    "NaN": '{"a": NaN}',
    "900 levels": '{"a": ' + "[" * 900 + "]" * 900 + "}",
    "100000 levels": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "unclosed": '{"a": ' + "[" * 100_000,
    "endless number": '{"a": ' + "9" * 5000 + "}",
}


@pytest.fixture
def product() -> Product:
    return make_product(sku="A", name="Mug", attributes={"colour": "blue", "list": [1], "number": 5})


def patch(product: Product, attributes: str) -> Any:
    """Send JSON text as the attributes of a product."""
    body = f'{{"attributes": {attributes}}}'
    return client_of("uploader").patch(f"/api/products/{product.pk}", body, content_type="application/json")


def stays(product: Product) -> bool:
    """Return whether the stored product is still the given one."""
    stored = Product.objects.get(pk=product.pk)
    return (stored.name, stored.attributes) == (product.name, product.attributes)


@pytest.mark.parametrize("attributes", ALLOWED.values(), ids=ALLOWED)
def test_attributes_within_the_limits_are_stored_and_read(product: Product, attributes: dict[str, Any]) -> None:
    response = patch(product, json.dumps(attributes))
    assert (response.status_code, response.json()["attributes"]) == (200, attributes)
    assert Product.objects.get(pk=product.pk).attributes == attributes
    assert save_product(product, name="Cup", attributes=json.dumps(attributes)).status_code == 302
    assert Product.objects.get(pk=product.pk).attributes == attributes


@pytest.mark.parametrize(("attributes", "reason"), REFUSED.values(), ids=REFUSED)
def test_api_refuses_others_by_name(product: Product, attributes: Any, reason: str) -> None:
    response = patch(product, json.dumps(attributes))
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    (error,) = response.json()["errors"]
    assert (error["field"], reason in error["detail"]) == ("attributes", True)
    assert len(response.content) < 2000
    assert stays(product)


@pytest.mark.parametrize("attributes", [*NOT_FINITE.values(), *UNREADABLE.values()], ids=[*NOT_FINITE, *UNREADABLE])
@pytest.mark.parametrize("as_form", [False, True], ids=["json", "form"])
def test_api_refuses_what_no_database_could_store(product: Product, attributes: str, as_form: bool) -> None:
    if as_form:
        address = f"/api/products/{product.pk}"
        response = client_of("uploader").patch(address, {"attributes": attributes}, format="multipart")
    else:
        response = patch(product, attributes)
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    assert stays(product)


@pytest.mark.parametrize("body", ['{"limit": %s}', '{"threshold": %s}', '{"save": %s}', "%s", '{"unknown": %s}'])
def test_deep_json_is_refused_by_every_call(product: Product, body: str) -> None:
    for deep in ("[" * 900 + "]" * 900, "[" * 100_000):
        response = client_of("uploader").post(
            f"/api/products/{product.pk}/match", body % deep, content_type="application/json"
        )
        assert (response.status_code, response.json()["code"]) == (400, "validation_error")


@pytest.mark.parametrize("text", [*(json.dumps(value) for value, _ in REFUSED.values()), *UNREADABLE.values()])
def test_form_of_the_product_refuses_others(product: Product, text: str) -> None:
    response = save_product(product, name="Cup", attributes=text)
    assert response.status_code == 200
    assert response.context["adminform"].form.errors["attributes"]
    assert stays(product)


def test_empty_attributes_are_dropped_before_they_are_counted(product: Product) -> None:
    empty: list[Any] = ["", None, [], {}]
    attributes = {f"n{number}": empty[number % 4] for number in range(2000)} | {"zero": 0, "no": False, "blank": " "}
    response = patch(product, json.dumps(attributes))
    assert response.json()["attributes"] == {"zero": 0, "no": False, "blank": " "}


@pytest.mark.parametrize(("attributes", "reason"), REFUSED.values(), ids=REFUSED)
def test_intake_refuses_others(attributes: Any, reason: str) -> None:
    with pytest.raises(ValidationError):
        clean_attributes(attributes)
    if isinstance(attributes, dict):
        with pytest.raises(ValidationError, match=reason):
            add_product([Upload(jpeg(1))], attributes=attributes)
    assert not Product.objects.exists()


def test_demo_keeps_to_the_limits() -> None:
    assert all(clean_attributes(product.attributes) == product.attributes for product in demo_products())


COLUMNS = {
    "long name": ("n" * 201, "x", "The limit is 200"),
    "quoted long name": ('attribute "' + "n" * 201 + '"', "x", "The limit is 200"),
    "long text": ("note", "x" * 20_001, "The limit is 20000"),
    "null in a name": (r'attribute "\u0000"', "x", "Null characters"),
}


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize(("column", "cell", "reason"), COLUMNS.values(), ids=COLUMNS)
def test_import_refuses_the_row_and_imports_the_others(kind: str, column: str, cell: str, reason: str) -> None:
    browser = browser_of("uploader")
    rows = [["image", "sku", column], ["1.jpg", "BAD", cell], ["1.jpg", "GOOD", ""]]
    page = ImportPage(browser, {f"new.{kind}": table(kind, rows), "images.zip": zipped({"1.jpg": jpeg(1)})}).confirm()
    assert page.counts() == {"CREATED": 1, "REJECTED": 1}
    assert reason in page.reasons()[2]
    assert [product.sku for product in Product.objects.all()] == ["GOOD"]


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("list", "[" * 940 + "]" * 940, "nested too deeply"),
        ("list", "[" * 30_000, "nested too deeply"),
        ("number", "[" * 100_000 + "]" * 31_000, "nested too deeply"),
        ("list", str(lists(4)), "nested too deeply"),
        ("list", "[" + "[]," * 22_000 + "[]]", "64 KiB"),
        ("list", "[1e999]", "must be finite"),
        ("number", "NaN", "must be finite"),
        ("number", "-Infinity", "must be finite"),
        ("list", r'["\ud83d"]', "valid Unicode"),
        ("list", r'["\u0000"]', "Null characters"),
        ("list", json.dumps(["x" * 20_001]), "The limit is 20000"),
    ],
    ids=["940", "unclosed", "100000", "five levels", "large", "1e999", "NaN", "-Infinity", "half", "null", "long"],
)
def test_json_cell_is_refused_in_preview_and_import(product: Product, column: str, cell: str, reason: str) -> None:
    browser = browser_of("uploader")
    good = make_product(sku="B", name="Mug")
    page = ImportPage(browser, {"new.csv": table("csv", [["sku", "name", column], ["A", "", cell], ["B", "Cup", ""]])})
    assert len(cell) > 20_000 or page.counts() == {"UPDATED": 1, "REJECTED": 1}
    assert reason in page.reasons()[2] or "The limit is 20000" in page.reasons()[2]
    page.confirm()
    assert page.counts() == {"UPDATED": 1, "REJECTED": 1}
    assert stays(product)
    assert Product.objects.get(pk=good.pk).name == "Cup"


def test_column_whose_quoted_name_is_not_unicode_keeps_its_own_name() -> None:
    product, column = make_product(sku="B"), r'attribute "\ud83d"'
    page = ImportPage(browser_of("uploader"), {"new.csv": table("csv", [["sku", column], ["B", "x"]])}).confirm()
    assert page.counts() == {"UPDATED": 1}
    assert Product.objects.get(pk=product.pk).attributes == {column: "x"}


def test_import_counts_the_attributes_that_the_product_has(product: Product) -> None:
    names = [f"n{number}" for number in range(498)]
    header, cells = ["sku", *names], ["A", *("x" for _ in names)]
    page = ImportPage(browser_of("uploader"), {"new.csv": table("csv", [header, cells])})
    assert "at most 500 attributes, and these are 501" in page.reasons()[2]
    page = ImportPage(browser_of("uploader"), {"new.csv": table("csv", [header, [*cells[:-1], ""]])}).confirm()
    assert page.counts() == {"UPDATED": 1}
    assert len(Product.objects.get(pk=product.pk).attributes) == 500


def test_command_refuses_the_row_and_imports_the_others(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    rows = [["image", "sku", "note"], ["1.jpg", "BAD", "x" * 20_001], ["1.jpg", "GOOD", "x"]]
    (tmp_path / "new.csv").write_bytes(table("csv", rows))
    for dry_run in (True, False):
        with open_source(tmp_path / "new.csv") as source:
            statuses = [result.status for result in import_rows(source, dry_run=dry_run)]
        assert statuses == [RowStatus.REJECTED, RowStatus.CREATED]


def test_reading_and_writing_use_the_same_limits() -> None:
    largest = {f"n{number}": "€" * 5000 for number in range(4)}
    largest["rest"] = "x" * (MAX_BYTES - len(json.dumps(largest | {"rest": ""}, ensure_ascii=False).encode()))
    for spelling in (json.dumps(largest), json.dumps(largest, ensure_ascii=False, indent=1)):
        assert read_attributes(spelling) == clean_attributes(largest) == largest
    assert read_attributes('{"a": null, "b": ""}') == {"a": None, "b": ""}


def table(kind: str, rows: list[list[str]]) -> bytes:
    """Return the rows as a table of this kind."""
    if kind == "xlsx":
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)  # type: ignore[union-attr]
        target = io.BytesIO()
        book.save(target)
        return target.getvalue()
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows).encode()
