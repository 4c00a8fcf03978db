"""The order of review on the page: newest first, or most useful first, as the user chose last."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from matching.models import ProductAnswer
from matching.review.usefulness import is_random
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_match, make_product

pytestmark = pytest.mark.django_db

NEXT, AHEAD = "/admin/matching/match/case/", "/admin/matching/match/case/ahead/"


@pytest.fixture
def arrivals() -> list[Product]:
    """Create twelve open cases. The later they came, the surer is their answer."""
    candidate, products = make_product(is_historical=True), []
    for number in range(12):
        product, best = make_product(), 0.4 + 0.05 * number
        make_match(product, candidate, probability=best)
        ProductAnswer.objects.create(
            product=product, answer="look", not_in_catalogue=1 - best, answered_at=timezone.now()
        )
        products.append(product)
    return products


def case_in(response: Any) -> int:
    found = re.search(r"/match/case/(\d+)/", response.get("Location") or response.content.decode())
    assert found is not None, response
    return int(found[1])


def walk(browser: Client, count: int) -> list[int]:
    """Return the cases that the page shows one after the other, while the user decides nothing."""
    shown = [case_in(browser.get(NEXT))]
    while len(shown) < count:
        shown.append(case_in(browser.post(AHEAD, {"shown": shown[-1]})))
    return shown


def test_newest_come_first_until_the_user_chooses_another_order(arrivals: list[Product]) -> None:
    assert walk(browser_of("reviewer"), 12) == [product.pk for product in arrivals][::-1]


def test_most_useful_first_is_the_order_of_the_api_and_shows_each_case_once(arrivals: list[Product]) -> None:
    browser = browser_of("reviewer")
    browser.get(f"{NEXT}?order=useful")
    rows = client_of("viewer").get("/api/cases?state=open&ordering=useful&page_size=100").json()["results"]
    shown = walk(browser, 12)
    assert sorted(shown) == [product.pk for product in arrivals]
    halves = [is_random(pk) for pk in shown]
    both = 2 * min(sum(halves), 12 - sum(halves))
    assert halves[:both] == [False, True] * (both // 2)
    for half in (False, True):
        expected = [row["product_id"] for row in rows if row["random_half"] is half]
        assert [pk for pk in shown if is_random(pk) is half] == expected
    assert case_in(browser.post(AHEAD, {"shown": shown[-1]})) in shown  # all were seen, so they come again


def test_decided_cases_do_not_come_again(arrivals: list[Product]) -> None:
    browser = browser_of("reviewer")
    shown = [case_in(browser.get(f"{NEXT}?order=useful"))]
    for _number in range(11):
        ahead = case_in(browser.post(AHEAD, {"shown": shown[-1]}))
        client_of("reviewer").post(f"/api/cases/{shown[-1]}/decision", {"decision": "new"}, format="json")
        shown.append(ahead)
    assert sorted(shown) == [product.pk for product in arrivals]
    client_of("reviewer").post(f"/api/cases/{shown[-1]}/decision", {"decision": "new"}, format="json")
    assert browser.post(AHEAD, {"shown": shown[-1]}).status_code == 204


def test_order_is_remembered_for_the_user_and_shown_on_the_page(arrivals: list[Product]) -> None:
    browser, other = browser_of("reviewer"), browser_of("viewer")
    first = case_in(browser.get(f"{NEXT}?order=useful"))
    assert case_in(browser.get(NEXT)) == first
    page = browser.get(f"{NEXT}{first}/").content.decode()
    assert page.count('<option value="useful" selected>') == page.count('name="order"') == 1
    assert case_in(other.get(NEXT)) == arrivals[-1].pk
    browser.get(f"{NEXT}?order=nonsense")
    assert case_in(browser.get(NEXT)) == first
    assert case_in(browser.get(f"{NEXT}?order=newest")) == arrivals[-1].pk
