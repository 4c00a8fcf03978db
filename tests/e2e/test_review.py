"""Review in a real browser: cases by keyboard, two reviewers at the same time, and undo."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Request, expect

from matching.models import Decision, Match, ReviewLease
from matching.review import decisions
from matching.review.decisions import Choice
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
def test_hundred_cases_are_decided_with_one_key_each_without_loading_a_page(
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
        page.keyboard.press("Enter" if number % 2 else "0")
        expect(page.locator("[data-count=today]")).to_have_text(str(number + 1))
        if number < 99:
            expect(page.locator(".cm-asked h2")).not_to_have_text(seen[-1])
    assert seen == [f"case {number}" for number in reversed(range(100))]
    assert pages == []
    expect(page.get_by_role("alert")).to_have_text("No other case waits for a decision.")
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
    page.keyboard.press("Enter")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    assert page.evaluate(
        "[...document.querySelectorAll('#case img[src]')].every((one) => one.complete && one.naturalWidth)"
    )
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
            press_key(page, "Enter")
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
    press_key(page, "Enter")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    expect(page.locator("[data-count=today]")).to_have_text("1")
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
    press_key(page, "0")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    press_key(page, "Enter")
    expect(page.locator("#said")).to_have_text("case 1: the same as product 1. 1 other candidate was settled.")
    expect(page.locator(".cm-asked h2")).to_have_text("case 0")
    press_key(page, "u")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    press_key(page, "u")
    expect(page.locator(".cm-asked h2")).to_have_text("case 2")
    expect(page.locator("[data-count=left]")).to_have_text("3")
    expect(page.locator("[data-count=today]")).to_have_text("0")
    assert set(Match.objects.values_list("review_status", flat=True)) == {"pending"}
    assert not Decision.objects.exists()
    expect(page.get_by_role("button", name="Undo U")).to_be_hidden()
    press_key(page, "n")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")


def test_number_keys_choose_the_candidate_and_letters_say_what_it_is(
    sign_in: SignIn, candidates: list[Product]
) -> None:
    make_cases(3, candidates, each=3)
    Product.objects.filter(name="case 1").update(attributes={"colour": "red"})
    page = sign_in("reviewer")
    start_review(page)
    page.keyboard.press("3")
    expect(page.locator(".cm-candidate:visible h3")).to_have_text("product 3")
    page.keyboard.press("a")
    page.keyboard.press("1")
    press_key(page, "Enter")
    made = Decision.objects.get(product__name="case 2")
    assert made.candidates == sorted(product.pk for product in (candidates[0], candidates[2]))
    page.keyboard.press("ArrowRight")
    press_key(page, "v")
    variant = Decision.objects.get(product__name="case 1")
    assert (variant.kind, variant.candidates, variant.differs) == ("variant", [candidates[1].pk], "colour")
    page.keyboard.press("m")
    page.get_by_label("Reason").fill("only the lid is seen")
    page.get_by_label("Reason").press("Escape")
    page.locator(".cm-picks label").first.click()
    page.keyboard.press("t")
    expect(page.get_by_role("alert")).to_have_text("No other case waits for a decision.")
    unsure = Decision.objects.get(product__name="case 0")
    assert (unsure.kind, unsure.reason) == ("unsure", "only the lid is seen")


def test_large_images_are_the_pair_that_scored(sign_in: SignIn, catalogue: list[Product]) -> None:
    page = sign_in("reviewer")
    page.goto(CASE)
    arrival = Product.objects.get(name="arrival")
    for match in arrival.matches.order_by("-similarity_score"):
        shown = page.locator(f'.cm-candidate[data-match="{match.pk}"] .cm-stage img')
        assert shown.get_attribute("data-image") == str(match.candidate_image_id)
    # The second view of the first product is nearer to the arrival than its first view.
    best = arrival.matches.get(candidate=catalogue[0])
    angles = {image.pk: image.position for image in catalogue[0].images.all()}
    assert best.candidate_image_id in angles
    assert page.locator('[data-stage="product"] img').first.get_attribute("data-image") == str(best.product_image_id)


def test_zoom_and_flicker_show_the_same_place_of_both_images(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(1, candidates)
    page = sign_in("reviewer")
    page.goto(CASE)
    page.keyboard.press("z")
    box = page.locator('[data-stage="product"]').bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    origins = page.locator(".cm-stage:visible img:not([hidden])").evaluate_all(
        "images => images.map((image) => { const box = image.parentElement.getBoundingClientRect();"
        " return getComputedStyle(image).transformOrigin.split(' ').map(Number.parseFloat)"
        ".map((value, axis) => Math.round(100 * value / (axis ? box.height : box.width))); })"
    )
    assert len(origins) == 2
    assert origins[0] == origins[1]
    page.keyboard.press("z")
    page.keyboard.press("f")
    expect(page.locator("[data-flicker][data-off]")).to_have_count(1)
    page.keyboard.press("f")
    expect(page.locator("[data-flicker]")).to_have_count(0)


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["wide", "phone"])
def test_case_needs_no_scrolling_and_at_most_600_kilobytes(
    sign_in: SignIn, catalogue: list[Product], size: tuple[int, int]
) -> None:
    page = sign_in("reviewer", viewport={"width": size[0], "height": size[1]})
    received: list[int] = []
    page.on(
        "response",
        lambda response: (
            received.append(int(response.headers.get("content-length", 0)))
            if response.request.resource_type == "image"
            else None
        ),
    )
    page.goto(CASE)
    page.wait_for_load_state("networkidle")
    assert len(catalogue) == 4
    for selector in (".cm-stage >> nth=0", ".cm-candidate:visible .cm-stage", ".cm-picks", ".cm-decide"):
        box = page.locator(selector).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= size[1], selector
    assert sum(received) <= 600_000
    assert page.evaluate("scrollY") == 0


def test_swipe_shows_the_next_candidate(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(1, candidates, each=2)
    page = sign_in("reviewer", viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(CASE)
    for kind, x in (("pointerdown", 300), ("pointerup", 120)):
        event = {"pointerType": "touch", "clientX": x, "clientY": 400, "bubbles": True}
        page.locator(".cm-candidate:visible .cm-stage").dispatch_event(kind, event)
    expect(page.locator(".cm-candidate:visible h3")).to_have_text("product 2")


def test_stale_page_says_who_decided_what_and_one_key_keeps_or_changes_it(
    sign_in: SignIn, candidates: list[Product]
) -> None:
    make_cases(3, candidates, each=2)
    page = sign_in("reviewer")
    for key in ("k", "o"):
        start_review(page)
        name = shown_product(page)
        product = Product.objects.get(name=name)
        decisions.decide(product.pk, Choice("same", [candidates[1].pk]), user_in("manager"))
        press_key(page, "Enter")
        expect(page.get_by_role("alert")).to_contain_text("manager has decided this case: the same as product 2")
        save_screenshot(page, "review-stale")
        press_key(page, key)
        expect(page.locator(".cm-asked h2")).not_to_have_text(name)
        made = Decision.objects.select_related("reviewer").get(product=product)
        assert made.reviewer is not None
        assert (made.reviewer.username, made.candidates) == (
            ("manager", [candidates[1].pk]) if key == "k" else ("reviewer", [candidates[0].pk])
        )


def test_cases_are_filtered_by_score_category_and_date(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(2, candidates)
    expected = make_product(name="wanted", category="lamps")
    make_match(expected, candidates[1], 95)
    make_cases(2, candidates)
    page = sign_in("reviewer")
    start_review(page)
    page.get_by_text("Which cases").click()
    page.get_by_label("Category", exact=True).select_option("lamps")
    expect(page.locator(".cm-asked h2")).to_have_text("wanted")
    expect(page.locator("[data-count=left]")).to_have_text("1")
    page.get_by_label("Score", exact=True).select_option("90")
    expect(page.locator(".cm-asked h2")).to_have_text("wanted")
    page.get_by_label("to", exact=True).fill("2020-01-01")
    page.wait_for_url("**/admin/matching/match/")
    expect(page.get_by_text("No other case waits for a decision.")).to_be_visible()


def test_unreachable_server_loses_no_verdict(sign_in: SignIn, candidates: list[Product]) -> None:
    make_cases(2, candidates)
    page = sign_in("reviewer")
    start_review(page)
    page.keyboard.press("Enter")
    expect(page.locator(".cm-asked h2")).to_have_text("case 0")
    page.route(re.compile("/undo/"), lambda route: route.abort())
    press_key(page, "u")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    page.unroute(re.compile("/undo/"))
    press_key(page, "u")
    expect(page.locator(".cm-asked h2")).to_have_text("case 1")
    assert not Decision.objects.exists()
