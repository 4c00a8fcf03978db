"""The products API: lists, filters, pages, changes, deletions, images, the queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, Product, ProductImage
from tests.helpers.accounts import client_of
from tests.helpers.files import files_in
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> APIClient:
    return client_of("uploader")


def product(seed: int = 1, **fields: Any) -> Product:
    """Create a product with one pending image."""
    return add_product([Upload(jpeg(seed), f"{seed}.jpg")], **fields).product


def found(response: Any) -> list[int]:
    assert response.status_code == 200, response.json()
    return [row["id"] for row in response.json()["results"]]


def test_product_is_returned_with_its_images(api: APIClient) -> None:
    shown = product(sku="M-1", name="Mug", category="mugs", attributes={"colour": "blue"})
    [image] = shown.images.all()
    body = api.get(f"/api/products/{shown.pk}").json()
    assert {name: body[name] for name in ("id", "sku", "name", "category", "is_historical", "attributes")} == {
        "id": shown.pk,
        "sku": "M-1",
        "name": "Mug",
        "category": "mugs",
        "is_historical": False,
        "attributes": {"colour": "blue"},
    }
    [serialized] = body["images"]
    assert (serialized["id"], serialized["state"], serialized["original_name"]) == (image.pk, "pending", "1.jpg")
    assert serialized["image_url"] == f"/media/{image.file.name}"


def test_lists_are_paged_newest_first(api: APIClient) -> None:
    ids = [Product.objects.create(sku=f"M-{number}").pk for number in range(5)]
    first = api.get("/api/products?page_size=2").json()
    assert (first["count"], first["previous"]) == (5, None)
    assert [row["id"] for row in first["results"]] == ids[:-3:-1]
    second = api.get(first["next"]).json()
    assert [row["id"] for row in second["results"]] == [ids[2], ids[1]]
    assert api.get("/api/products?page=4&page_size=2").json()["code"] == "not_found"


def test_a_page_has_200_products_at_most(api: APIClient) -> None:
    Product.objects.bulk_create(Product(sku=f"M-{number}") for number in range(201))
    assert len(found(api.get("/api/products?page_size=1000"))) == 200


def test_filters_narrow_the_list(api: APIClient) -> None:
    mug = product(1, sku="M-1", name="Blue mug", category="mugs", is_historical=True)
    lamp = product(2, sku="L-1", name="Lamp", category="lamps", description="gives blue light")
    ProductImage.objects.filter(product=lamp).update(state="failed")
    responses = {
        "is_historical=true": [mug.pk],
        "is_historical=false": [lamp.pk],
        "category=lamps": [lamp.pk],
        "sku=M-1": [mug.pk],
        "state=pending": [mug.pk],
        "state=failed": [lamp.pk],
        "search=blue": [lamp.pk, mug.pk],
        "search=L-": [lamp.pk],
        "search=blue&category=mugs": [mug.pk],
        "sku=nothing": [],
    }
    assert {query: found(api.get(f"/api/products?{query}")) for query in responses} == responses


@pytest.mark.parametrize("query", ["state=broken", "sku=%00", "search=%00", "page=nothing"])
def test_invalid_filter_is_rejected(api: APIClient, query: str) -> None:
    response = api.get(f"/api/products?{query}")
    assert (response.status_code, response["Content-Type"]) in {
        (400, "application/problem+json"),
        (404, "application/problem+json"),
    }


def test_product_list_needs_the_same_number_of_queries_for_any_length(
    api: APIClient, django_assert_max_num_queries: Any
) -> None:
    for length in (2, 12):
        while Product.objects.count() < length:
            product(Product.objects.count())
        # Queries: the token with its user, its last use, the permissions, the count, the page's keys, products, images,
        # barcodes, links to the same product.
        with django_assert_max_num_queries(10):
            assert len(found(api.get("/api/products"))) == length


def test_fields_are_changed_one_by_one(api: APIClient) -> None:
    changed = product(sku="M-1", name="Mug", category="mugs")
    response = api.patch(f"/api/products/{changed.pk}", {"name": " Cup 🍵 ", "attributes": {"volume": 0.3}})
    assert (response.status_code, response.json()["name"]) == (200, "Cup 🍵")
    changed.refresh_from_db()
    assert (changed.sku, changed.name, changed.category) == ("M-1", "Cup 🍵", "mugs")
    assert changed.attributes == {"volume": 0.3}


def test_duplicate_sku_is_rejected(api: APIClient) -> None:
    product(1, sku="M-1")
    other = product(2, sku="M-2")
    response = api.patch(f"/api/products/{other.pk}", {"sku": "M-1"})
    assert (response.status_code, response.json()["code"]) == (409, "sku_exists")
    assert api.patch(f"/api/products/{other.pk}", {"sku": "M-2"}).status_code == 200
    assert api.patch(f"/api/products/{other.pk}", {"sku": ""}).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"name": "n" * 501},
        {"name": "nul \0"},
        {"category": "half a pair \ud83d"},
        {"attributes": ["a", "list"]},
        {"attributes": {"nul": "\0"}},
        {"attributes": {"half": "\ud83d"}},
        {"is_historical": "perhaps"},
    ],
    ids=["long", "null", "half a pair", "list", "null in attributes", "half a pair in attributes", "no truth"],
)
def test_invalid_change_is_rejected_and_changes_nothing(api: APIClient, change: dict[str, Any]) -> None:
    kept = product(sku="M-1", name="Mug")
    # JSON escapes non-ASCII characters, so it can contain half of a surrogate pair.
    response = api.generic("PATCH", f"/api/products/{kept.pk}", json.dumps(change), content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    assert api.get(f"/api/products/{kept.pk}").json()["name"] == "Mug"


def test_malformed_json_is_rejected(api: APIClient) -> None:
    kept = product()
    response = api.generic("PATCH", f"/api/products/{kept.pk}", '{"name": ', content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")


def test_read_only_fields_stay_unchanged(api: APIClient) -> None:
    kept = product()
    assert api.patch(f"/api/products/{kept.pk}", {"id": 7, "images": [], "created_at": "2020-01-01"}).status_code == 200
    body = api.get(f"/api/products/{kept.pk}").json()
    assert (body["id"], len(body["images"])) == (kept.pk, 1)


def test_product_that_stops_being_historical_is_queued_for_matching(api: APIClient) -> None:
    becomes_new = product(is_historical=True)
    assert api.patch(f"/api/products/{becomes_new.pk}", {"is_historical": False}).status_code == 200
    becomes_new.refresh_from_db()
    assert becomes_new.unmatched_since is not None


@pytest.mark.django_db(transaction=True)
def test_deleting_a_product_deletes_all_its_rows_and_files(api: APIClient, media: Path) -> None:
    gone, kept = product(1, sku="M-1"), product(2, sku="M-2")
    assert Feature.objects.filter(product=gone).exists()
    assert api.delete(f"/api/products/{gone.pk}").status_code == 204
    [image] = ProductImage.objects.all()
    assert image.product == kept
    assert files_in(media) == sorted([str(image.file.name), image.thumbnail_name])
    assert not Feature.objects.filter(product=gone.pk).exists()
    assert api.get(f"/api/products/{gone.pk}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/products/1"),
        ("PATCH", "/api/products/1"),
        ("DELETE", "/api/products/1"),
        ("GET", "/api/products/99999999999999999999999"),
        ("GET", "/api/products/abc"),
        ("GET", "/api/products/"),
        ("GET", "/api/nothing/here"),
        ("POST", "/api/nothing"),
        ("GET", "/api/"),
        ("GET", "/media/pictures/00/00000000000000000000000000000000.jpg"),
    ],
)
def test_missing_object_returns_a_problem_document(api: APIClient, method: str, path: str) -> None:
    response = api.generic(method, path)
    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")
    assert (response.json()["code"], response.json()["status"]) == ("not_found", 404)


@pytest.mark.parametrize("path", ["/media/../db.sqlite3", "/media/pictures/../../catalogmatch.sqlite3", "/media/"])
def test_only_images_are_served(api: APIClient, path: str) -> None:
    assert api.get(path).status_code == 404


def test_wrong_method_is_rejected(api: APIClient) -> None:
    for method, path in (("PUT", f"/api/products/{product().pk}"), ("POST", "/api/products"), ("GET", "/api/match")):
        response = api.generic(method, path)
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


def test_image_is_served_with_its_content_type(api: APIClient) -> None:
    [image] = product().images.all()
    for url in (image.file.url, image.thumbnail_url):
        response = api.get(url)
        assert (response.status_code, response["Content-Type"]) == (200, "image/jpeg")
        assert response["X-Content-Type-Options"] == "nosniff"
        assert b"".join(response.streaming_content).startswith(b"\xff\xd8\xff")  # type: ignore[attr-defined]


def test_queue_is_counted_by_state(api: APIClient) -> None:
    for seed, state in enumerate(["pending", "pending", "ready", "failed"]):
        ProductImage.objects.filter(product=product(seed)).update(state=state)
    queue = api.get("/api/queue").json()
    assert {name: queue[name] for name in ("pending", "claimed", "ready", "failed")} == {
        "pending": 2,
        "claimed": 0,
        "ready": 1,
        "failed": 1,
    }
    assert set(queue) == {"pending", "claimed", "ready", "failed", "images_per_second", "eta_seconds"}


def test_too_many_calls_return_429_with_the_time_to_wait(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from catalogmatch.api.throttling import ApiThrottle

    monkeypatch.setitem(ApiThrottle.THROTTLE_RATES, "user", "2/min")
    assert [api.get("/api/queue").status_code for _ in range(2)] == [200, 200]
    response = api.get("/api/queue")
    assert (response.status_code, response.json()["code"]) == (429, "throttled")
    assert 0 < int(response["Retry-After"]) <= 60
    assert client_of("viewer").get("/api/queue").status_code == 200
