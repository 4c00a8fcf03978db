"""Review in a real browser: cases by keyboard, two reviewers at the same time, and undo."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Request, expect

from matching.models import Match, ReviewLease
from products.models import Product
from tests.e2e.conftest import SignIn, save_screenshot
from tests.helpers.accounts import user_in
from tests.helpers.rows import make_match, make_product

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CASE = "/admin/matching/match/case/"


def make_cases(count: int, candidates: list[Product], each: int = 1) -> None:
    """Create cases with these candidates, whose image files they use too."""
    image = candidates[0].images.all()[0]
    for number in range(count):
        product = make_product(name=f"case {number}")
        product.images.update(file=image.file.name)
        for candidate in candidates[:each]:
            make_match(product, candidate, 70)


@pytest.fixture
def candidates(catalogue: list[Product]) -> list[Product]:
    """Return the historical products, without any pending match."""
    Match.objects.all().delete()
    return catalogue


def shown_product(page: Page) -> str:
    return page.locator(".cm-asked h2").inner_text()


def press_key(page: Page, name: str) -> None:
    """Press a key and wait for its effect and for the prefetched next case."""
    page.keyboard.press(name)
    page.wait_for_function("!isBusy")


def start_review(page: Page, query: str = "") -> None:
    page.goto(CASE + query)
    page.wait_for_function("nextProduct !== null || document.querySelector('[data-count=left]').textContent === '1'")


@pytest.mark.timeout(300)
def test_hundred_cases_are_judged_by_keyboard_without_loading_a_page(
    sign_in: SignIn, candidates: list[Product]
) -> None:
    make_cases(100, candidates)
    page = sign_in("reviewer")
    start_review(page)
    pages: list[str] = []
    page.on("request", lambda request: pages.append(request.url) if request.is_navigation_request() else None)
    seen = []
    for number in range(100):
        seen.append(shown_product(page))
        page.keyboard.press("c" if number % 2 else "r")
        expect(page.locator("[data-count=today]")).to_have_text(str(number + 1))
        if number < 99:
            expect(page.locator(".cm-asked h2")).not_to_have_text(seen[-1])
    assert seen == [f"case {number}" for number in reversed(range(100))]
    assert pages == []
    expect(page.get_by_role("alert")).to_have_text("No other case waits for a verdict.")
    expect(page.locator("[data-count=left]")).to_have_text("0")
    assert Match.objects.filter(review_status="confirmed").count() == 50
    assert Match.objects.filter(review_status="rejected").count() == 50


def test_next_case_is_prefetched_with_its_images(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(3, candidates)
    page = sign_in("reviewer")
    start_review(page)
    page.wait_for_load_state("networkidle")
    late: list[str] = []

    def on_request(request: Request) -> None:
        if request.resource_type == "image":
            late.append(request.url)

    page.on("request", on_request)
    page.route(re.compile("/ahead/"), lambda route: None)  # requests for the next case get no response from now on
    page.keyboard.press("c")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    assert page.evaluate("[...document.querySelectorAll('#case img')].every((one) => one.complete && one.naturalWidth)")
    assert late == []


def test_two_reviewers_in_two_browsers_never_see_the_same_case(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(12, candidates)
    pages = [sign_in("reviewer"), sign_in("manager")]
    seen: list[list[str]] = [[], []]
    for page in pages:
        start_review(page)
    for _ in range(5):
        for page, names in zip(pages, seen, strict=True):
            names.append(shown_product(page))
            press_key(page, "c")
            expect(page.locator(".cm-asked h2")).not_to_have_text(names[-1])
    assert len(set(seen[0] + seen[1])) == 10
    save_screenshot(pages[0], "review-of-two")


def test_review_continues_after_signing_in_in_another_tab(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(3, candidates, each=2)
    page = sign_in("reviewer")
    start_review(page)
    reviewer = user_in("reviewer")
    reviewer.set_password("correct horse")
    reviewer.save()
    page.context.clear_cookies()
    other = page.context.new_page()
    other.goto("/admin/login/")
    other.fill("[name=username]", reviewer.username)
    other.fill("[name=password]", "correct horse")
    other.click("[type=submit]")
    other.wait_for_url("**/admin/")
    rejected: list[str] = []
    page.on("response", lambda response: rejected.append(response.url) if response.status == 403 else None)
    press_key(page, "c")
    press_key(page, "x")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    expect(page.locator("[data-count=today]")).to_have_text("2")
    press_key(page, "u")
    expect(page.locator(".cm-asked h2")).to_have_text("case 2")
    page.goto("/admin/ask/")
    for _ in range(50):
        if not ReviewLease.objects.exists():
            break
        page.wait_for_timeout(100)
    assert not ReviewLease.objects.exists()
    assert rejected == []


def test_leaving_the_page_releases_the_leases(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(3, candidates)
    page = sign_in("reviewer")
    start_review(page)
    assert ReviewLease.objects.count() == 2
    page.goto("/admin/ask/")
    for _ in range(50):
        if not ReviewLease.objects.exists():
            break
        page.wait_for_timeout(100)
    assert not ReviewLease.objects.exists()


def test_undo_returns_over_several_cases_and_then_continues(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(3, candidates, each=2)
    page = sign_in("reviewer")
    start_review(page)
    press_key(page, "x")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    press_key(page, "c")
    statuses = page.locator(".cm-candidate").get_by_role("status")
    expect(statuses.nth(0)).to_have_text("confirmed")
    press_key(page, "n")
    expect(page.locator(".cm-asked h2")).to_have_text("case 0")
    press_key(page, "u")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    expect(statuses.nth(0)).to_have_text("pending")
    press_key(page, "u")
    expect(page.locator(".cm-asked h2")).to_have_text("case 2")
    expect(statuses).to_have_text(["pending", "pending"])
    expect(page.locator("[data-count=left]")).to_have_text("6")
    expect(page.locator("[data-count=today]")).to_have_text("0")
    assert set(Match.objects.values_list("review_status", flat=True)) == {"pending"}
    expect(page.get_by_role("button", name="Undo U")).to_be_hidden()
    press_key(page, "n")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")


def test_rejecting_moves_to_the_next_candidate_and_then_to_the_next_case(
    sign_in: SignIn, candidates: list[Product]
) -> None:
    make_cases(2, candidates, each=3)
    page = sign_in("reviewer")
    start_review(page)
    for _ in range(3):
        press_key(page, "r")
    expect(page.locator(".cm-asked h2")).to_have_text("case 0")
    assert Match.objects.filter(product__name="case 1", review_status="rejected").count() == 3


def test_images_are_switched_by_key_and_by_click(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(1, candidates)
    page = sign_in("reviewer")
    page.goto(CASE)
    large = page.locator(".cm-candidate .cm-big img")
    first = large.evaluate("image => image.src")
    page.keyboard.press("v")
    expect(large).not_to_have_js_property("src", first)
    page.locator("[data-image]").first.click()
    expect(large).to_have_js_property("src", first)


def test_cases_are_filtered_by_score_category_and_date(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(2, candidates)
    expected = make_product(name="wanted", category="lamps")
    make_match(expected, candidates[1], 95)
    make_cases(2, candidates)
    page = sign_in("reviewer")
    start_review(page)
    page.get_by_label("Category", exact=True).select_option("lamps")
    expect(page.locator(".cm-asked h2")).to_have_text("wanted")
    expect(page.locator("[data-count=left]")).to_have_text("1")
    page.get_by_label("Score", exact=True).select_option("90")
    expect(page.locator(".cm-asked h2")).to_have_text("wanted")
    page.get_by_label("to", exact=True).fill("2020-01-01")
    page.wait_for_url("**/admin/matching/match/")
    expect(page.get_by_text("No other case waits for a verdict.")).to_be_visible()


def test_unreachable_server_loses_no_verdict(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(2, candidates)
    page = sign_in("reviewer")
    start_review(page)
    page.keyboard.press("c")
    expect(page.locator(".cm-asked h2")).to_have_text("case 0")
    page.route(re.compile("/undo/"), lambda route: route.abort())
    press_key(page, "u")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    page.unroute(re.compile("/undo/"))
    press_key(page, "u")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    expect(page.locator(".cm-candidate").get_by_role("status")).to_have_text("pending")
