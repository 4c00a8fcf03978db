"""The number of database queries of a page or list does not grow with its rows.

The test finds all admin lists by itself. A new list only needs an entry in MAKE that creates its rows.
benchmarks/admin.py measures the speed of these lists on a full catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks.admin import list_addresses
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_case

pytestmark = pytest.mark.django_db

LIST_BOUND = 14
# A search without a hit asks for parts of its words, each with a query of a millisecond.
SEARCH_BOUND = 30
PAGING = 1  # a list of more than one page needs one more query for its keys
PAGE_BOUND = 26
API_BOUND = 10  # products come with images, their barcodes and links; a search first asks whether its words are known


def case(number: int) -> None:
    make_case(95, 60, category=f"category {number % 3}", sku=f"N-{number}")


def user(number: int) -> None:
    User.objects.create_user(f"person{number}").groups.add(*Group.objects.all())


MAKE: dict[str, Callable[[int], object]] = {
    "products.product": case,
    "matching.match": case,
    "auth.user": user,
    "auth.group": lambda number: Group.objects.create(name=f"group {number}"),
}
PAGES = (
    "/admin/",
    "/admin/history/",
    "/admin/device/",
    "/admin/models/",
    "/admin/ask/",
    "/admin/products/product/add/",
    "/admin/products/product/import/",
    "/admin/matching/match/case/",
)
API_LISTS = ("/api/products", "/api/products?search=arrival", "/api/matches", "/api/matches?review_status=pending")


def queries(client: Client, address: str) -> list[str]:
    """Return the SQL queries of a page that returns 200."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address, follow=True).status_code == 200, address
    return [query["sql"] for query in captured.captured_queries]


def create_rows(make: Callable[[int], object], numbers: range) -> None:
    for number in numbers:
        make(number)


admin.autodiscover()  # the URLs do this at the first request, which is too late for the next line


@pytest.mark.parametrize("model", [pytest.param(one, id=one._meta.label_lower) for one in admin.site._registry])
def test_admin_list_needs_the_same_number_of_queries_for_fifty_rows_as_for_five(model: type[models.Model]) -> None:
    superuser = User.objects.create_superuser("boss")
    browser, make = browser_of(superuser), MAKE[model._meta.label_lower]

    def counts() -> dict[str, int]:
        addresses: Any = list_addresses(admin.site._registry[model], superuser)
        return {address: len(queries(browser, address)) for _, address in addresses if "?p=" not in address}

    create_rows(make, range(5))
    few = counts()
    create_rows(make, range(5, 50))
    many = counts()
    assert [address for address in few if many[address] > few[address] + PAGING] == []
    searches = {address for address in many if "?q=" in address or "&q=" in address}
    assert max(many[address] for address in many.keys() - searches) <= LIST_BOUND
    assert max((many[address] for address in searches), default=0) <= SEARCH_BOUND


@pytest.mark.parametrize(
    ("caller", "address", "bound"),
    [
        *((lambda: browser_of("manager"), address, PAGE_BOUND) for address in PAGES),
        *((lambda: client_of("viewer"), address, API_BOUND) for address in API_LISTS),
    ],
    ids=[*PAGES, *API_LISTS],
)
def test_page_needs_the_same_number_of_queries_for_fifty_cases_as_for_five(
    caller: Callable[[], Client], address: str, bound: int
) -> None:
    client = caller()
    queries(client, address)  # the first request of a token stores that it was used
    create_rows(case, range(5))
    few = queries(client, address)
    create_rows(case, range(5, 50))
    many = queries(client, address)
    assert len(many) == len(few) <= bound, "\n".join(many)


def test_case_needs_the_same_number_of_queries_for_ten_candidates_as_for_three() -> None:
    browser = browser_of("reviewer")
    small, _ = make_case(90, 80, 70)
    large, _ = make_case(*range(81, 91))
    few = queries(browser, f"/admin/matching/match/case/{small.pk}/")
    many = queries(browser, f"/admin/matching/match/case/{large.pk}/")
    assert len(many) == len(few) <= PAGE_BOUND, "\n".join(many)
