"""Requests that ask for much with few bytes: long searches, filters that scan, many parameters, abandoned exports."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.admin.paging import MAX_SEARCH_LENGTH, MAX_SEARCH_WORDS
from matching.admin import review
from matching.models import ReviewLease
from products.models import Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import browser_of, make_case

pytestmark = pytest.mark.django_db

LISTS = ("/admin/products/product/", "/admin/matching/match/", "/admin/auth/user/", "/admin/auth/group/")


def superuser() -> Any:
    user = user_in("manager")
    user.is_superuser = True
    user.save()
    return browser_of(user)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("lookup", ["regex", "iregex", "contains", "icontains"])
def test_lists_take_no_filter_that_scans_texts(path: str, lookup: str) -> None:
    field = {"match": "note", "user": "username"}.get(path.split("/")[3], "name")
    browser = superuser()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = browser.get(path, {f"{field}__{lookup}": "^(x+x+)+y$"})
    assert response.status_code == 400
    assert not any("(x+x+)+y" in query["sql"] for query in queries)


@pytest.mark.parametrize("path", ["/admin/products/product/export.csv", "/admin/matching/match/export.xlsx"])
def test_exports_take_no_filter_that_scans_texts(path: str) -> None:
    field = "note" if "match" in path else "name"
    assert superuser().get(path, {f"{field}__regex": "^(x+x+)+y$"}).status_code == 400


@pytest.mark.parametrize("field", ["attributes__a__iregex", "attributes__regex", "images__original_name__regex"])
def test_filters_of_nested_fields_do_not_scan_either(field: str) -> None:
    assert superuser().get(LISTS[0], {field: "^(x+x+)+y$"}).status_code == 400


def test_search_of_the_api_is_at_most_as_long_as_a_sku() -> None:
    client = client_of("viewer")
    assert client.get("/api/products", {"search": "a" * MAX_SEARCH_LENGTH}).status_code == 200
    response = client.get("/api/products", {"search": "a" * (MAX_SEARCH_LENGTH + 1)})
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")


@pytest.mark.parametrize("path", LISTS[:2])
def test_search_of_a_list_uses_the_beginning_of_a_long_text(path: str) -> None:
    make_case(90, sku="wanted")
    for text in ("wanted " + "x" * 3000, "wanted " * 500):
        with CaptureQueriesContext(connection) as queries:
            assert browser_of("viewer").get(path, {"q": text}).status_code == 200
        # The search is in the page's links too, but in no condition.
        assert not any("x" * MAX_SEARCH_LENGTH in query["sql"] for query in queries)
        assert all(query["sql"].count("LIKE") <= 6 * MAX_SEARCH_WORDS for query in queries)


def test_page_far_behind_the_last_one_is_not_found_without_reading_rows() -> None:
    Product.objects.create()
    with CaptureQueriesContext(connection) as queries:
        assert client_of("viewer").get("/api/products", {"page": 10**18, "page_size": 10**18}).status_code == 404
    assert not any("OFFSET" in query["sql"] for query in queries)


@pytest.mark.parametrize("count", [1_001, 100_000])
def test_requests_with_very_many_values_are_refused(count: int) -> None:
    client = client_of("uploader")
    assert client.get(f"/api/products?{'category=a&' * count}").status_code == 400
    browser, values = browser_of("manager"), {"action": "confirm", "_selected_action": ["1"] * count}
    assert browser.post("/admin/matching/match/", values).status_code == 400
    for part in (
        'Content-Disposition: form-data; name="a"',
        'Content-Disposition: form-data; name="a"; filename="a"',
    ):
        body = f"--B\r\n{part}\r\n\r\nx\r\n"
        response = client.generic(
            "POST", "/api/products/upload", body * count + "--B--\r\n", "multipart/form-data; boundary=B"
        )
        assert (response.status_code, response.json()["code"]) == (400, "validation_error")


def test_one_request_renews_few_leases() -> None:
    cases = [make_case(90)[0].pk for _ in range(review.MAX_RENEWED + 5)]
    response = browser_of("reviewer").post("/admin/matching/match/case/hold/", {"case": cases})
    assert response.json()["held"] == cases[: review.MAX_RENEWED]
    assert ReviewLease.objects.count() == review.MAX_RENEWED


@pytest.mark.django_db(transaction=True)
def test_export_stops_reading_when_the_client_is_gone() -> None:
    Product.objects.bulk_create([Product(name=f"{number}") for number in range(5000)])
    path = "/admin/products/product/export.csv"

    def queries_of(chunks: int) -> int:
        response: Any = browser_of("viewer").get(path)
        with CaptureQueriesContext(connection) as queries:
            rows = iter(response.streaming_content)
            for _ in zip(range(chunks), rows, strict=False):
                pass
            response.close()  # as gunicorn does once it cannot write
            assert next(rows, None) is None
        return len(queries)

    assert queries_of(1) < queries_of(100_000)
