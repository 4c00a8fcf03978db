"""GTIN, MPN, brand, price and currency of products: upload, API, import, export and older attributes."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from products.models import Product
from products.prices import parse_price
from tests.helpers.accounts import client_of
from tests.helpers.commands import run
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images

FIELDS = {"gtin": "4006381333931", "mpn": "HL-70", "brand": "Stabilo", "price": "19.9", "currency": "EUR"}


def image(seed: int) -> SimpleUploadedFile:
    return SimpleUploadedFile(f"{seed}.jpg", jpeg(seed), "image/jpeg")


@pytest.mark.django_db
def test_api_stores_and_changes_the_fields() -> None:
    api = client_of("uploader")
    sent = FIELDS | {"gtin": "400-6381 333931", "currency": "eur", "image": image(1), "sku": "A"}
    pk = api.post("/api/products/upload?wait=0", sent, format="multipart").json()["product_id"]
    product = api.get(f"/api/products/{pk}").json()
    assert {name: product[name] for name in FIELDS} == FIELDS
    changed = api.patch(f"/api/products/{pk}", {"price": "1299.5", "currency": "chf"}, format="json").json()
    assert (changed["price"], changed["currency"]) == ("1299.5", "CHF")
    assert api.patch(f"/api/products/{pk}", {"price": None}, format="json").json()["price"] is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [("price", "-1"), ("price", "1e99"), ("currency", "euro"), ("currency", "€"), ("gtin", "1" * 51)],
)
def test_api_rejects_what_is_no_price_currency_or_gtin(field: str, value: str) -> None:
    api = client_of("uploader")
    pk = api.post("/api/products/upload?wait=0", {"image": image(1)}, format="multipart").json()["product_id"]
    answer = api.patch(f"/api/products/{pk}", {field: value}, format="json")
    assert (answer.status_code, {error["field"] for error in answer.json()["errors"]}) == (400, {field})


@pytest.mark.django_db
def test_products_are_found_by_gtin_mpn_and_brand() -> None:
    api = client_of("uploader")
    for seed, fields in enumerate([FIELDS, {"brand": "Other"}]):
        api.post("/api/products/upload?wait=0", fields | {"image": image(seed)}, format="multipart")
    for question in (
        "gtin=4006381333931",
        "mpn=HL-70",
        "brand=Stabilo",
        "search=381333",
        "search=stabi",
        "search=hl-7",
    ):
        found = api.get(f"/api/products?{question}").json()["results"]
        assert [product["brand"] for product in found] == ["Stabilo"], question


@pytest.mark.django_db
def test_import_reads_the_columns_and_an_export_comes_back_unchanged(tmp_path: Any) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    rows = [
        {"sku": "A", "image": "a.jpg", "GTIN": "4006381333931", "Brand": "Stabilo", "price": "1.299,50 €"},
        {"sku": "B", "image": "b.jpg", "MPN": "=HL", "price": "12.3456", "currency": "usd", 'attribute "brand"': "x"},
        {"sku": "C", "image": "c.jpg", "price": "5 EUR", "currency": "USD"},
    ]
    imported = run("import_products", write_csv(tmp_path / "c.csv", rows))
    assert imported.code == 3
    assert "The price is in EUR, and the currency is USD." in imported.err
    first, second = Product.objects.order_by("sku")
    assert (first.gtin, first.brand, first.price, first.currency) == (
        "4006381333931",
        "Stabilo",
        Decimal("1299.5"),
        "EUR",
    )
    assert (second.mpn, second.price, second.currency, second.brand) == ("=HL", Decimal("12.3456"), "USD", "")
    assert second.attributes == {"brand": "x"}

    data = browser_of("manager").get("/admin/products/product/export.csv").getvalue()
    [line] = [row for row in csv.DictReader(io.StringIO(data.decode("utf-8-sig"))) if row["sku"] == "A"]
    assert (line["price"], line["currency"], line["gtin"]) == ("1299.50", "EUR", "4006381333931")


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("19.99", "19.99", ""), ("19,9", "19.9", ""), ("1.299,00 €", "1299", "EUR"), ("€1,299.00", "1299", "EUR"),
        ("1 299,00 EUR", "1299", "EUR"), ("CHF 1'299.50", "1299.50", "CHF"), ("usd 5", "5", "USD"),
        ("$ 7.5", "7.5", ""), ("1,299,000", "1299000", ""), ("1.299.000,25", "1299000.25", ""),
        ("0.125", "0.125", ""), ("12.3456", "12.3456", ""), ("1299", "1299", ""), ("9,99 zł", "9.99", "PLN"),
    ],
)  # fmt: skip
def test_prices_are_read_as_people_write_them(text: str, amount: str, currency: str) -> None:
    assert parse_price(text) == (Decimal(amount), currency)


@pytest.mark.parametrize("text", ["1.299", "1,299", "free", "5-10", "1,2,3", "1.2.3,4,5", "9 9 9 points", "", "9" * 41])
def test_unclear_prices_are_errors(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_price(text)


@pytest.mark.django_db(transaction=True)
def test_attributes_of_these_names_move_into_the_columns(caplog: pytest.LogCaptureFixture) -> None:
    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    before = [node for node in newest if node[0] not in ("products", "matching")] + [("products", "0004_head_features")]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:  # SQLite drops no column that a trigger names
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in cursor.fetchall():
                cursor.execute(f"DROP TRIGGER {name}")
    MigrationExecutor(connection).migrate(before)
    try:
        old = MigrationExecutor(connection).loader.project_state(before).apps.get_model("products", "Product")
        old.objects.create(
            sku="A", attributes={"Brand": "Nord", "GTIN": 4006381333931, "Price": "5 EUR", "colour": "red"}
        )
        old.objects.create(sku="B", attributes={"price": "on request", "brand": ["a"], "currency": "usd"})
    finally:
        MigrationExecutor(connection).migrate(newest)
        emit_post_migrate_signal(0, interactive=False, db="default")  # which makes all triggers again
    first, second = Product.objects.order_by("sku")
    assert (first.brand, first.gtin, first.price, first.currency) == ("Nord", "4006381333931", Decimal(5), "EUR")
    assert first.attributes == {"colour": "red"}
    assert (second.price, second.brand, second.currency) == (None, "", "USD")
    assert second.attributes == {"price": "on request", "brand": ["a"]}
    assert "keeps its attribute price: 'on request' fits no column" in caplog.text
