"""Numbers of a new product are estimated from its confirmed and probable matches."""

from __future__ import annotations

from typing import Any

import pytest

from matching.models import Match
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_match, make_product
from tests.helpers.vectors import add_product, legacy_features
from tests.matching.decided_cases import calibrate_by_hand

pytestmark = pytest.mark.django_db


def make_case(*matches: dict[str, Any]) -> Product:
    """Create a new product with a match of each: its ``probability`` and verdict, and fields of the candidate."""
    arrival = make_product(name="arrival")
    for fields in matches:
        probability, status = fields.pop("probability", 0.9), fields.pop("status", "pending")
        candidate = make_product(is_historical=True, **fields)
        match = make_match(arrival, candidate, probability=probability)
        if status != "pending":
            Match.objects.filter(pk=match.pk).update(review_status=status, reviewed_at=match.created_at)
    return arrival


def estimates(product: Product) -> dict[tuple[str, str], tuple[float, float, float, int]]:
    found = client_of("viewer").get(f"/api/cases/{product.pk}").json()["estimates"]
    return {(one["name"], one["unit"]): (one["median"], one["low"], one["high"], one["count"]) for one in found}


def test_price_is_median_and_range_of_probable_matches() -> None:
    product = make_case(
        {"price": "3.00", "currency": "EUR"}, {"price": "5.00", "currency": "EUR", "probability": 0.5},
        {"price": "4.50", "currency": "EUR", "probability": 0.1, "status": "confirmed"},
        {"price": "900", "currency": "EUR", "probability": 0.4},
        {"price": "800", "currency": "EUR", "status": "rejected"},
        {"price": "700", "currency": "EUR", "status": "variant"},
        {"price": "600", "currency": "EUR", "probability": None},
    )  # fmt: skip
    assert estimates(product) == {("price", "EUR"): (4.5, 3.0, 5.0, 3)}


def test_currencies_and_units_are_never_mixed() -> None:
    product = make_case(
        {"price": "3", "currency": "EUR", "attributes": {"weight": "500 g", "pages": 12, "note": "see 5", "new": True}},
        {"price": "300", "currency": "JPY", "attributes": {"weight": "1 kg", "pages": "14,5", "rate": "1e999"}},
        {"price": "4", "attributes": {"weight": "2", "pages": "many"}},
    )
    assert estimates(product) == {
        ("price", "EUR"): (3, 3, 3, 1), ("price", "JPY"): (300, 300, 300, 1), ("price", ""): (4, 4, 4, 1),
        ("pages", ""): (13.25, 12, 14.5, 2), ("weight", "g"): (750, 500, 1000, 2), ("weight", ""): (2, 2, 2, 1),
    }  # fmt: skip


def test_without_probable_matches_nothing_is_estimated() -> None:
    assert estimates(make_case({"price": "3", "probability": 0.2})) == {}
    assert estimates(make_case()) == {}


def test_match_answer_and_review_page_show_them() -> None:
    calibrate_by_hand()
    [look] = legacy_features(1)
    known, arrival = add_product(look), add_product(look, historical=False)
    Product.objects.filter(pk=known.pk).update(price="12.50", currency="EUR")
    body = client_of("uploader").post(f"/api/products/{arrival.pk}/match").json()
    assert body["estimates"] == [
        {"name": "price", "unit": "EUR", "median": 12.5, "low": 12.5, "high": 12.5, "count": 1}
    ]
    page = " ".join(browser_of("viewer").get(f"/admin/matching/match/case/{arrival.pk}/").content.decode().split())
    assert "Estimated:" in page
    assert "about 12.50 EUR (1 match)" in page
