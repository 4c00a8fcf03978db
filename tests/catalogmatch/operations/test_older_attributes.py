"""Stored attributes that break the schema: each page and call shows them shortened, and nothing changes them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from core.database.bounded_json import is_nested_deeper
from matching.models import Match
from matching.service import find_and_save_matches
from products.attributes import SHOWN_LENGTH, ShortenedAttributes, clean_attributes
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product
from products.queue.embed import embed_pending
from tests.helpers.accounts import client_of
from tests.helpers.attributes import STORED, store, stored_text
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.helpers.web.import_page import ImportPage

pytestmark = pytest.mark.django_db

MANY_BYTES = 200_000  # more than any page of two such products needs


@pytest.fixture(params=STORED.values(), ids=list(STORED))
def older(request: pytest.FixtureRequest) -> Product:
    """Return a new product with a match, whose attributes and those of its candidate are then overwritten."""
    stored = request.param
    candidate = add_product([Upload(jpeg(1))], sku="OLD", name="Mug", is_historical=True, attributes={"size": "L"})
    product = add_product([Upload(jpeg(2))], sku="NEW", name="Mug", attributes={"colour": "blue"}).product
    embed_pending()
    find_and_save_matches(product.pk, threshold=0)
    store(candidate.product, stored)
    store(product, stored)
    return Product.objects.get(pk=product.pk)


def test_api_shows_them_shortened(older: Product) -> None:
    api = client_of("uploader")
    for address in ("/api/products", "/api/products?search=Mug", f"/api/products/{older.pk}", "/api/matches"):
        response = api.get(address)
        assert response.status_code == 200, address
        assert len(response.content) < MANY_BYTES
    attributes = api.get(f"/api/products/{older.pk}").json()["attributes"]
    assert "…" in attributes
    assert len(json.dumps(attributes)) < 6 * SHOWN_LENGTH
    assert clean_attributes(attributes) == attributes  # what is shown keeps to the schema
    response = api.post(f"/api/products/{older.pk}/match", {"threshold": 0})
    assert (response.status_code, len(response.json()["matches"])) == (200, 1)


@pytest.mark.parametrize("user", ["manager", "viewer"])
def test_pages_show_them_shortened(older: Product, user: str) -> None:
    browser = browser_of(user)
    products, matches = "/admin/products/product/", "/admin/matching/match/"
    for address in (
        products,
        f"{products}?q=Mug",
        f"{products}{older.pk}/change/",
        f"{products}{older.pk}/history/",
        matches,
        f"{matches}?q=Mug",
        reverse("admin:matching_match_case", args=[older.pk]),
        "/admin/",
        reverse("admin:history"),
    ):
        response = browser.get(address)
        assert response.status_code == 200, address
        assert len(response.content) < 2 * MANY_BYTES
    for suffix in ("csv", "xlsx"):
        for page in (products, matches):
            response = browser.get(f"{page}export.{suffix}")
            assert response.status_code == 200
            assert len(b"".join(response)) < MANY_BYTES


def test_other_fields_can_be_changed_and_the_attributes_stay(older: Product) -> None:
    before = digest(older)
    response = client_of("uploader").patch(f"/api/products/{older.pk}", {"name": "Cup"})
    assert (response.status_code, response.json()["name"]) == (200, "Cup")
    assert digest(older) == before
    assert len(stored_text(older, "product_history")) < 2 * SHOWN_LENGTH  # the history keeps what is shown
    page = browser_of("manager").get(f"/admin/products/product/{older.pk}/history/")
    assert page.status_code == 200
    assert "Cup" in page.content.decode()


def test_older_entry_of_the_history_is_shown(older: Product) -> None:
    store(older, stored_text(older), "product_history")
    response = client_of("uploader").patch(f"/api/products/{older.pk}", {"attributes": {"colour": "red"}})
    assert response.status_code == 200
    for address in (f"/admin/products/product/{older.pk}/history/", reverse("admin:history")):
        page = browser_of("manager").get(address)
        assert page.status_code == 200
        assert "red" in page.content.decode()
        assert len(page.content) < 2 * MANY_BYTES


def test_product_with_them_can_be_deleted(older: Product) -> None:
    assert client_of("manager").delete(f"/api/products/{older.pk}").status_code == 204
    assert not Product.objects.filter(pk=older.pk).exists()
    assert browser_of("manager").get(f"/admin/products/product/{older.pk}/history/").status_code == 200


def test_form_of_the_product_leaves_them_alone(older: Product) -> None:
    browser, before = browser_of("manager"), digest(older)
    assert post_form(browser, older, name="Cup") == 302
    assert (Product.objects.get(pk=older.pk).name, digest(older)) == ("Cup", before)

    assert post_form(browser, older, attributes='{"colour": "red"}') == 302
    assert Product.objects.get(pk=older.pk).attributes == {"colour": "red"}


@pytest.mark.django_db(transaction=True)
def test_import_refuses_to_merge_what_it_did_not_read(older: Product) -> None:
    browser, before = browser_of("manager"), digest(older)
    page = ImportPage(browser, {"new.csv": "sku,name,colour\nNEW,Cup,red\n"})
    assert "stored attributes are over the limits" in page.reasons()[2]
    assert (Product.objects.get(pk=older.pk).name, digest(older)) == ("Mug", before)

    page = ImportPage(browser, {"new.csv": "sku,name\nNEW,Cup\n"}).confirm()
    assert page.counts() == {"UPDATED": 1}
    assert (Product.objects.get(pk=older.pk).name, digest(older)) == ("Cup", before)


@pytest.mark.django_db(transaction=True)
def test_exported_table_comes_back_unchanged(older: Product) -> None:
    browser = browser_of("manager")
    table = b"".join(browser.get("/admin/products/product/export.csv"))
    if len(next(csv.reader(io.StringIO(table.decode("utf-8-sig"))))) > 500:
        pytest.skip("wider than a table may be")
    assert ImportPage(browser, {"products.csv": table}).counts() == {"SKIPPED": 2}


def test_products_with_them_can_be_copied_and_replaced(older: Product) -> None:
    if is_nested_deeper(older.attributes.text, 1000):
        pytest.skip("the database refuses to store it again")
    (copy,) = Product.objects.bulk_create([Product(sku="COPY", attributes=older.attributes)])
    assert Product.objects.get(pk=copy.pk).attributes["…"]
    response = client_of("uploader").patch(f"/api/products/{older.pk}", {"attributes": {"colour": "red"}})
    assert response.json()["attributes"] == {"colour": "red"}
    assert Match.objects.count() == 1


def test_verify_names_each_product(older: Product) -> None:
    out = StringIO()
    with pytest.raises(CommandError) as error:
        call_command("verify", stdout=out)
    if len(older.attributes.text) == len(STORED["100000 levels"]):
        assert "CHECK constraint failed in products" in f"{error.value} {out.getvalue()}"
        return
    lines = [line for line in out.getvalue().splitlines() if "attributes" in line]
    assert len(lines) == 2
    assert f"Product {older.pk}:" in lines[1]
    assert max(map(len, lines)) < 300


def test_equal_texts_are_equal_and_others_are_not() -> None:
    one = ShortenedAttributes('{"a": 1e999}')
    assert one == ShortenedAttributes('{"a": 1e999}')
    assert one != ShortenedAttributes('{"a":  1e999}')
    assert one != dict(one)


@pytest.mark.parametrize("cut", range(1, 60))
def test_text_that_is_cut_anywhere_is_readable(cut: int) -> None:
    text = r'{"na\"me": "a \\ \u00e9\ud83d\ude00 b", "list": [1, {"x": "]"}], "n": 1.5}'
    shown = ShortenedAttributes(text[:cut])
    assert shown["…"]
    json.dumps(shown, ensure_ascii=False).encode()


def digest(product: Product, table: str = "products") -> str:
    """Return a hash of the stored attributes, which a failed comparison can print."""
    return hashlib.sha256(stored_text(product, table).encode("utf-8", "surrogatepass")).hexdigest()


def post_form(browser: Client, product: Product, **changes: Any) -> int:
    """Send the form of the product's page as a browser does. Return the status."""
    address = f"/admin/products/product/{product.pk}/change/"
    form: Any = browser.get(address).context["adminform"].form
    fields = {name: form[name].value() for name in ("sku", "name", "category", "description", "attributes")}
    fields["initial-attributes"] = fields["attributes"]  # a hidden field
    inlines = {
        "features-TOTAL_FORMS": 0, "features-INITIAL_FORMS": 0, "images-TOTAL_FORMS": 0, "images-INITIAL_FORMS": 0,
    }  # fmt: skip
    return browser.post(address, fields | inlines | changes).status_code
