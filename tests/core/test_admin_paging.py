"""Long admin lists: each row is on exactly one page, in the requested order, and any search works."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from products.admin import filters
from products.models import Product
from tests.helpers.rows import browser_of, make_product

pytestmark = pytest.mark.django_db

LIST = "/admin/products/product/"
PAGE = 50


@pytest.fixture
def names() -> list[str]:
    """Create 120 products of 3 categories. Return their names in the order of creation."""
    products = Product.objects.bulk_create(
        Product(name=f"product {n}", category="abc"[n % 3], sku=f"S-{n}") for n in range(120)
    )
    for n, product in enumerate(products):
        added = timezone.now() - timedelta(days=n)
        Product.objects.filter(pk=product.pk).update(created_at=added)
    return [product.name for product in reversed(products)]


def pages(query: str) -> list[str]:
    browser = browser_of("viewer")
    shown: list[str] = []
    for number in (1, 2, 3):
        shown += [product.name for product in browser.get(f"{LIST}?{query}&p={number}").context["cl"].result_list]
    return shown


@pytest.mark.parametrize("order", ["added", "-added"])
def test_pages_follow_one_another_in_the_requested_order(names: list[str], order: str) -> None:
    columns = browser_of("viewer").get(LIST).context["cl"].list_display
    number = columns.index("added")
    shown = pages(f"o={'-' if order.startswith('-') else ''}{number}")
    assert shown == (names if order == "added" else names[::-1])


def test_pages_of_a_search_contain_all_results(names: list[str]) -> None:
    assert sorted(pages("q=product")) == sorted(names)
    browser = browser_of("viewer")
    narrowed = browser.get(f"{LIST}?q=product&category=a").context["cl"]
    assert narrowed.result_count == 40
    assert {product.category for product in narrowed.result_list} == {"a"}


@pytest.mark.parametrize("path", [LIST, "/admin/matching/match/"])
def test_search_for_very_many_words_works(path: str) -> None:
    assert browser_of("viewer").get(path, {"q": "word " * 2000}).status_code == 200


def test_category_filter_offers_the_largest_and_accepts_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filters, "MAX_CHOICES", 2)
    for category, count in (("a", 1), ("b", 2), ("c", 3), ("", 4)):
        for _ in range(count):
            make_product(category=category)
    assert filters.categories() == ["b", "c"]
    changes = browser_of("viewer").get(f"{LIST}?category=a").context["cl"]
    assert [product.category for product in changes.result_list] == ["a"]
    [filter_] = [one for one in changes.filter_specs if one.title == "category"]
    assert [name for name, _ in filter_.lookup_choices] == ["a", "b", "c"]
