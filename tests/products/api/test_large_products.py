"""Pages, lists and exports of large products: complete, and small in memory."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from products.models import Product, ProductImage
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_match

pytestmark = pytest.mark.django_db(transaction=True)

PRODUCTS = 200
LIMIT = 25 * 2**20  # bytes; the attributes of all have 12.5 MiB as text and several times that as objects


def large_attributes(kibibytes: int) -> dict[str, str]:
    """Return many small attributes with so many KiB of JSON."""
    return {f"name {number:03}": "x" * 118 for number in range(480 * kibibytes // 64)}


@pytest.fixture
def large_products() -> list[Product]:
    """Store 200 products with 64 KiB of attributes and an image each."""
    attributes = large_attributes(64)
    assert 64_000 < len(json.dumps(attributes)) < 64 * 2**10
    products = Product.objects.bulk_create(
        Product(sku=f"L-{number:03}", attributes=attributes) for number in range(PRODUCTS)
    )
    ProductImage.objects.bulk_create(
        ProductImage(product=product, file="pictures/aa/a.jpg", sha256="0" * 64, width=1, height=1)
        for product in products
    )
    return products


def peak_of(act: Callable[[], Any]) -> int:
    """Return the most bytes that Python allocated meanwhile."""
    gc.collect()
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def drain(response: Any) -> int:
    """Read a response as a web server does, and return its size."""
    parts = response.streaming_content if response.streaming else [response.content]
    return sum(len(part) for part in parts)


def test_page_of_large_products_is_complete(large_products: list[Product]) -> None:
    api = client_of("viewer")
    response: Any = api.get("/api/products?page_size=150")
    assert response["Content-Type"] == "application/json"
    page = json.loads(b"".join(response.streaming_content))
    assert (page["count"], page["previous"], len(page["results"])) == (PRODUCTS, None, 150)
    rest = api.get(page["next"]).json()
    assert rest["next"] is None
    skus = [product["sku"] for product in page["results"] + rest["results"]]
    assert skus == [product.sku for product in reversed(large_products)]
    alone = api.get(f"/api/products/{page['results'][7]['id']}").json()
    assert page["results"][7] == alone


@pytest.mark.usefixtures("large_products")
def test_page_of_large_products_takes_little_memory(record_property: Callable[[str, object], None]) -> None:
    api = client_of("viewer")
    api.get("/api/products?page_size=1")
    sizes: list[int] = []
    peak = peak_of(lambda: sizes.append(drain(api.get("/api/products?page_size=200"))))
    record_property("MiB", f"{peak / 2**20:.0f} for a page of {sizes[0] / 2**20:.0f}")
    assert sizes[0] > PRODUCTS * 60_000
    assert peak < LIMIT


@pytest.mark.usefixtures("large_products")
@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_export_of_large_products_takes_little_memory(
    suffix: str, record_property: Callable[[str, object], None]
) -> None:
    browser = browser_of("viewer")
    browser.get("/admin/products/product/export.csv?q=nothing")
    sizes: list[int] = []
    peak = peak_of(lambda: sizes.append(drain(browser.get(f"/admin/products/product/export.{suffix}"))))
    record_property("MiB", f"{peak / 2**20:.0f}")
    assert sizes[0] > 10_000
    assert peak < LIMIT


def test_lists_of_large_products_take_little_memory(
    large_products: list[Product], record_property: Callable[[str, object], None]
) -> None:
    new, *others = large_products
    for rank, candidate in enumerate(others[:60], start=1):
        make_match(new, candidate, 90 - rank, review_status="rejected", reviewed_at=candidate.created_at)
    browser = browser_of("manager")
    for address in (
        "/admin/products/product/",
        "/admin/products/product/?q=L-",
        "/admin/matching/match/",
        "/admin/device/",
        "/admin/",
    ):
        browser.get(address)
        peak = peak_of(lambda address=address: drain(browser.get(address)))  # type: ignore[misc]
        record_property(f"MiB of {address}", f"{peak / 2**20:.0f}")
        assert peak < LIMIT, address


def test_page_of_old_products_of_megabytes_is_sent_one_by_one(api: APIClient) -> None:
    """Products from before the limits: 12 with 2.5 MB of attributes each."""
    attributes = {"text": "x" * 2_500_000}
    Product.objects.bulk_create(Product(sku=f"O-{number}", attributes=attributes) for number in range(12))
    api.get("/api/products?page_size=1")
    assert peak_of(lambda: drain(api.get("/api/products"))) < 40 * 2**20  # 12 times 2.5 MB took 86 MiB at once


@pytest.fixture
def api() -> APIClient:
    return client_of("viewer")


def test_small_page_is_sent_at_once(api: APIClient) -> None:
    Product.objects.create(sku="A")
    response = api.get("/api/products")
    assert not getattr(response, "streaming", False)
    assert response.json()["results"][0]["sku"] == "A"
    assert api.get("/api/products?page=2").status_code == 404


def test_history_of_large_products_takes_little_memory(record_property: Callable[[str, object], None]) -> None:
    """Entries from before the limits have the attributes whole."""
    attributes = large_attributes(64)
    Product.history.bulk_create(
        Product.history.model(
            id=1, sku="A", attributes=attributes | {"n": number}, history_date="2026-01-01T00:00:00Z", history_type="~"
        )
        for number in range(PRODUCTS)
    )
    browser: Client = browser_of("viewer")
    browser.get("/admin/history/")
    peak = peak_of(lambda: drain(browser.get("/admin/history/")))
    record_property("MiB", f"{peak / 2**20:.0f}")
    assert peak < LIMIT
