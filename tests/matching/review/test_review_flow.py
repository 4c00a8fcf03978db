"""The flow of reviewing: the order of cases, cases of one import, saved filters, and the pace."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from matching.models import Match, SavedFilter
from matching.review.decisions import Choice, decide
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_case, make_match
from tests.helpers.sample_images import jpeg
from tests.helpers.web.import_page import ImportPage, zipped

pytestmark = pytest.mark.django_db

NEXT = "/admin/matching/match/case/"


def walk(browser: Client, query: str, count: int) -> list[int]:
    """Return the products of the cases that come up if each is put off to later."""
    found: list[int] = []
    address = f"{NEXT}{query}"
    for _ in range(count):
        page = browser.get(address, follow=True)
        found.append(int(page.redirect_chain[-1][0].split("/case/")[1].split("/")[0]))
        address = page.context["next_url"]
    return found


def with_probability(*probabilities: float | None, **fields: Any) -> Product:
    product, matches = make_case(*(80.0 for _ in probabilities), **fields)
    for match, probability in zip(matches, probabilities, strict=True):
        Match.objects.filter(pk=match.pk).update(probability=probability)
    return product


def test_most_probable_cases_come_first_and_each_once() -> None:
    likely = with_probability(0.9, 0.4)
    unlikely = with_probability(0.2)
    middle = with_probability(0.5, 0.45)
    by_score = with_probability(None)  # its score is 80
    order = [likely.pk, by_score.pk, middle.pk, unlikely.pk]
    assert walk(browser_of("reviewer"), "?order=probability", 5) == [*order, likely.pk]


def test_cases_by_category_stand_together() -> None:
    products = [with_probability(0.5, category=name).pk for name in ("mugs", "lamps", "mugs", "lamps")]
    order = [products[index] for index in (3, 1, 2, 0)]
    assert walk(browser_of("viewer"), "?order=category", 5) == [*order, order[0]]


def test_newest_cases_come_first_by_default() -> None:
    products = [with_probability(0.5).pk for _ in range(3)]
    assert walk(browser_of("viewer"), "", 3) == products[::-1]


@pytest.mark.django_db(transaction=True)
def test_cases_of_an_import_are_reviewed_from_its_page() -> None:
    browser = browser_of("manager")
    table = "sku,name,image\nNEW-1,arrival,1.jpg\n"
    ImportPage(browser, {"old.zip": zipped({"mug.jpg": jpeg(2)})}, is_historical="on").confirm()
    other = with_probability(0.5)  # another case, which the import does not make
    done = ImportPage(browser, {"new.zip": zipped({"table.csv": table, "1.jpg": jpeg(1)})}).confirm()
    link = re.search(r'href="([^"]*\?imported=[^"]*)"', browser.get(done.page).content.decode())
    assert link is not None
    made = Product.objects.get(sku="NEW-1")
    if not made.matches.exists():
        candidate = Product.objects.filter(is_historical=True)[0]
        make_match(made, candidate, 40)
    assert walk(browser, link[1].removeprefix(NEXT), 1) == [made.pk]
    assert other.pk != made.pk


def test_an_import_that_is_gone_has_no_cases() -> None:
    with_probability(0.5)
    page = browser_of("viewer").get(f"{NEXT}?imported=6f1e0a0e-5a3c-4d1c-9f43-0c8b9f0f2a11", follow=True)
    assert "No other case waits for a decision." in page.content.decode()


def test_a_filter_is_saved_shown_replaced_and_deleted() -> None:
    product = with_probability(0.5, category="mugs")
    browser, address = browser_of("reviewer"), "/admin/matching/match/case/filters/"
    browser.post(address, {"name": "Mugs", "query": "?category=mugs&order=probability&next=//evil"})
    page = browser.get(f"{NEXT}{product.pk}/").content.decode()
    assert 'href="/admin/matching/match/case/?category=mugs&amp;order=probability">Mugs</a>' in page
    browser.post(address, {"name": "Mugs", "query": "?category=lamps"})
    [saved] = SavedFilter.objects.all()
    assert saved.query == "?category=lamps"
    browser_of("manager").post(address, {"delete": saved.pk})
    assert SavedFilter.objects.count() == 1
    browser.post(address, {"delete": saved.pk})
    assert SavedFilter.objects.count() == 0
    assert "give it a name" in browser.post(address, {"name": "", "query": "?category=x"}, follow=True).content.decode()


def test_the_page_says_how_fast_decisions_come_and_what_is_left() -> None:
    reviewer, products = user_in("reviewer"), [with_probability(0.5) for _ in range(5)]
    browser = browser_of(reviewer)
    assert 'data-count="pace"></span>' in browser.get(NEXT, follow=True).content.decode()
    for product in products[:3]:
        decide(product.pk, Choice("new"), reviewer)
    page = browser.get(NEXT, follow=True).content.decode()
    assert re.search(r'data-count="pace">\d+ a minute, about \d+ minutes? left<', page)
