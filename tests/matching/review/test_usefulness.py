"""The order "most useful first": uncertain cases and random ones by turns, on stable pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from matching.models import ProductAnswer
from matching.review.usefulness import is_random
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import make_match, make_product

pytestmark = pytest.mark.django_db


def get(query: str) -> dict[str, Any]:
    response = client_of("viewer").get(f"/api/cases?state=open&{query}")
    assert response.status_code == 200, response.json()
    body: dict[str, Any] = response.json()
    return body


@pytest.fixture
def arrivals() -> list[Product]:
    """Create forty cases with two candidates each. Their best probability goes from 0.40 up to 0.98."""
    candidates = [make_product(is_historical=True) for _ in range(2)]
    products = []
    for number in range(40):
        product, best = make_product(), 0.4 + 0.58 * number / 39
        make_match(product, candidates[0], probability=best)
        make_match(product, candidates[1], probability=(1 - best) / 2)
        ProductAnswer.objects.create(
            product=product, answer="look", not_in_catalogue=(1 - best) / 2, answered_at=timezone.now()
        )
        products.append(product)
    return products


def test_uncertain_and_random_cases_come_by_turns(arrivals: list[Product]) -> None:
    rows = get("ordering=useful&page_size=100")["results"]
    assert sorted(row["product_id"] for row in rows) == [product.pk for product in arrivals]
    for row in rows:
        assert row["random_half"] == is_random(row["product_id"])
    halves = [row["random_half"] for row in rows]
    both = 2 * min(sum(halves), len(halves) - sum(halves))
    assert halves[:both] == [False, True] * (both // 2)
    uncertain = [row["product_id"] for row in rows if not row["random_half"]]
    assert uncertain == [product.pk for product in arrivals if not is_random(product.pk)]
    random = [row["product_id"] for row in rows if row["random_half"]]
    assert random not in (sorted(random), sorted(random, reverse=True))


def test_pages_are_stable_and_the_newest_come_first_by_default(arrivals: list[Product]) -> None:
    whole = [row["product_id"] for row in get("ordering=useful&page_size=100")["results"]]
    parts = [
        row["product_id"] for page in range(1, 5) for row in get(f"ordering=useful&page_size=10&page={page}")["results"]
    ]
    assert parts == whole
    assert [row["product_id"] for row in get("page_size=100")["results"]] == [product.pk for product in arrivals][::-1]
    assert client_of("viewer").get("/api/cases?ordering=best").status_code == 400


def test_case_that_is_probably_in_no_catalogue_is_as_sure_as_one_with_a_sure_candidate() -> None:
    candidate = make_product(is_historical=True)
    products = []
    for best, none in ((0.02, 0.98), (0.5, 0.45), (None, None), (0.97, 0.03)):
        product = make_product()
        while is_random(product.pk):
            product = make_product()
        make_match(product, candidate, probability=best)
        ProductAnswer.objects.create(product=product, answer="look", not_in_catalogue=none, answered_at=timezone.now())
        products.append(product.pk)
    found = [row["product_id"] for row in get("ordering=useful")["results"]]
    assert found == [products[1], products[3], products[0], products[2]]


def test_half_of_all_cases_is_random_whatever_their_ids_are() -> None:
    for step in (1, 2, 3, 10, 1000):
        share = sum(is_random(number) for number in range(1, 2_000 * step, step)) / 2_000
        assert 0.46 < share < 0.54
