"""Exports of lists as CSV and XLSX: complete, safe in spreadsheets, and importable without changes."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from openpyxl import load_workbook

from core.spreadsheets.writer import XLSX_MAX_CELL_LENGTH, csv_bytes, escape_formula, unescape_formula, xlsx_bytes
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_match, make_product
from tests.helpers.web.import_page import ImportPage

pytestmark = pytest.mark.django_db(transaction=True)

PRODUCTS, MATCHES = "/admin/products/product/", "/admin/matching/match/"

# Formulas, delimiters and line breaks, and characters that break CSV or XLSX files.
TEXTS = [
    "=1+1", "+49 30", "-5", "@SUM(A1)", "\tx", "\rx", "'=x", "''-", "'quoted'", '"', "a,b;c\td", "two\nlines",
    "two\r\nlines", "<b>&amp;</b>", "שלום", "😀", "x" * 10_000, "1.0", "2026-01-01", "true", "#N/A", "  ", "a\x07b",
]  # fmt: skip


@pytest.fixture
def browser() -> Client:
    return browser_of("manager")


def exported(browser: Client, address: str) -> list[dict[str, Any]]:
    """Download an export. Return its rows as dictionaries."""
    data = browser.get(address).getvalue()
    if address.split("?")[0].endswith(".csv"):
        return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    header, *rows = load_workbook(io.BytesIO(data)).active.iter_rows(values_only=True)  # type: ignore[union-attr]
    return [dict(zip(map(str, header), row, strict=True)) for row in rows]


def stored() -> list[tuple[Any, ...]]:
    return list(
        Product.objects.order_by("pk").values_list(
            "sku", "name", "category", "description", "is_historical", "attributes", "updated_at"
        )
    )


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_product_export_contains_attributes_state_and_images(browser, kind):
    make_product("ready", "failed", sku="A", name="Lamp", attributes={"colour": "blue", "weight": 350})
    make_product(name="no SKU", is_historical=True, attributes={"colour": None})
    first, second = exported(browser, f"{PRODUCTS}export.{kind}?o=-3")
    assert [first["sku"] or second["sku"], first["name"], second["name"]] == ["A", "no SKU", "Lamp"]
    assert (second["colour"], second["weight"], second["(state)"], str(second["(images)"])) == (
        "blue", "350", "failed", "2",
    )  # fmt: skip
    assert (first["is_historical"], first["colour"] or "") == ("true", "")
    product = Product.objects.get(sku="A")
    assert second["(created)"] == timezone.localtime(product.created_at).isoformat(timespec="seconds")


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_unchanged_export_is_imported_without_changes(browser, kind):
    for number, text in enumerate(TEXTS):
        attributes = {"text": text, "number": number, "truth": number % 2 == 0, "list": [1, "a"], "none": None}
        make_product(sku=f"S{number}", name=text[:400], description=text, attributes=attributes)
    make_product(name="no SKU", attributes={"sku": "own", "(note)": "x", "=key": "y", "Größe; cm": "3", "": "empty"})
    make_product(sku="=SKU", is_historical=True, attributes={"attribute": "z", "Text": "other case"})
    before = stored()
    table = browser.get(f"{PRODUCTS}export.{kind}").getvalue()
    upload = ImportPage(browser, {f"products.{kind}": table}).confirm()
    assert upload.counts() == {"SKIPPED": len(before)}
    assert stored() == before


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_edited_export_changes_only_the_edited_cells(browser, kind):
    product = make_product(sku="-1", name="=Lamp", attributes={"colour": "+blue"})
    nameless = make_product(name="nameless")
    data = browser.get(f"{PRODUCTS}export.csv").getvalue().decode("utf-8-sig")
    ImportPage(browser, {"products.csv": data.replace("+blue", "+red").replace("nameless", "named")}).confirm()
    product.refresh_from_db()
    nameless.refresh_from_db()
    assert (product.name, product.attributes, nameless.name) == ("=Lamp", {"colour": "+red"}, "named")


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_no_exported_cell_is_a_formula(browser, kind):
    for text in ("=1+1", "+1", "-1", "@x", "\tx", "\rx"):
        make_product(name=text, category=text, attributes={text: text})
    for row in exported(browser, f"{PRODUCTS}export.{kind}"):
        texts = [text for text in (*row, *row.values()) if isinstance(text, str)]
        assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_escaping_apostrophe_is_removed_on_import():
    for text in TEXTS:
        assert unescape_formula(escape_formula(text)) == text
        assert escape_formula(text)[:1] not in {"=", "+", "-", "@", "\t", "\r"}
    assert escape_formula("'quoted'") == "'quoted'"


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_match_export_contains_verdict_reviewer_and_time(browser, kind):
    product, candidate = make_product(sku="N", name="new"), make_product(sku="O", name="=old", is_historical=True)
    now = timezone.now()
    make_match(product, candidate, 91.236, review_status="confirmed", reviewer=user_in("reviewer"), reviewed_at=now)
    make_match(product, make_product(is_historical=True), 60.0)
    second, first = sorted(exported(browser, f"{MATCHES}export.{kind}"), key=lambda row: float(row["score"]))
    assert [first[name] for name in ("product sku", "candidate sku", "candidate name", "verdict", "by")] == [
        "N", "O", "'=old", "confirmed", "reviewer",
    ]  # fmt: skip
    assert float(first["score"]) == 91.24
    assert first["when"] == timezone.localtime(now).isoformat(timespec="seconds")
    assert (second["verdict"], second["by"] or "", second["when"] or "") == ("pending", "", "")


def test_export_follows_filters_search_and_order_of_the_list(browser):
    for sku, category in (("A1", "mugs"), ("A2", "mugs"), ("B1", "mugs"), ("A3", "lamps")):
        make_product(sku=sku, category=category)
    found = exported(browser, f"{PRODUCTS}export.csv?q=A&category=mugs")
    assert [row["sku"] for row in found] == ["A2", "A1"]
    assert len(exported(browser, f"{PRODUCTS}export.csv?p=2")) == 4
    page = browser.get(f"{PRODUCTS}?q=A&category=mugs").content.decode()
    assert f"{PRODUCTS}export.xlsx?category=mugs&amp;q=A" in page


def test_only_selected_rows_are_exported(browser):
    chosen, _ = make_product(sku="A"), make_product(sku="B")
    response = browser.post(PRODUCTS, {"action": "export_csv", "_selected_action": [chosen.pk]})
    assert b"\r\nA," in response.getvalue()
    assert b"\r\nB," not in response.getvalue()


def test_only_users_who_may_view_the_list_may_export_it():
    make_product(sku="A")
    assert len(exported(browser_of("viewer"), f"{PRODUCTS}export.csv")) == 1
    assert Client().get(f"{PRODUCTS}export.csv").status_code == 302
    assert Client().get(f"{MATCHES}export.xlsx").status_code == 302


def test_values_too_long_for_a_workbook_are_reported_and_exported_as_csv(browser):
    make_product(sku="A", description="x" * XLSX_MAX_CELL_LENGTH)
    response = browser.get(f"{PRODUCTS}export.xlsx?q=A", follow=True)
    assert response.redirect_chain == [(f"{PRODUCTS}?q=A", 302)]
    assert "Export as CSV" in response.content.decode()
    assert len(exported(browser, f"{PRODUCTS}export.csv")[0]["description"]) == XLSX_MAX_CELL_LENGTH


def test_export_of_more_than_a_thousand_attributes_is_rejected(browser):
    for first in (0, 500, 1000):
        make_product(attributes={f"a{number}": "x" for number in range(first, min(first + 500, 1001))})
    assert "Narrow the list down" in browser.get(f"{PRODUCTS}export.csv", follow=True).content.decode()


def test_export_with_an_invalid_filter_redirects_to_the_list(browser):
    assert browser.get(f"{PRODUCTS}export.csv?is_historical__exact=perhaps").status_code == 302


@pytest.mark.parametrize("write", [csv_bytes, xlsx_bytes])
def test_rows_are_fetched_while_the_export_is_streamed(write):
    fetched = []

    def rows():
        for number in range(20_000):
            fetched.append(number)
            yield [str(number), "x" * 500]

    pieces = write(rows())
    assert len(next(pieces)) < 200_000
    assert len(fetched) < 20_000
    assert max(map(len, pieces)) < 200_000


def test_number_of_queries_does_not_grow_with_the_rows_of_a_batch(browser, django_assert_max_num_queries):
    for number in range(300):
        Product.objects.create(sku=f"S{number}")
    with django_assert_max_num_queries(20):
        assert len(exported(browser, f"{PRODUCTS}export.csv")) == 300
