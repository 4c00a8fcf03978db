"""The history in a real browser, and work that is interrupted by an expired session or a closed tab."""

from __future__ import annotations

import re

import pytest
from django.contrib.sessions.models import Session
from django.core.files.storage import default_storage
from playwright.sync_api import Page, expect

from matching.models import Decision, Match
from products.models import Product, ProductImage
from tests.e2e.conftest import SignIn, photograph, save_screenshot
from tests.e2e.test_daily_work import jpeg_file
from tests.helpers.accounts import user_in
from tests.helpers.rows import make_match, make_product

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]

PRODUCTS, CASE = "/admin/products/product/", "/admin/matching/match/case/"


def test_product_page_shows_who_changed_what(sign_in: SignIn) -> None:
    product = Product.objects.get(name="arrival")
    page = sign_in("manager")
    page.goto(f"{PRODUCTS}{product.pk}/change/")
    page.get_by_label("Name", exact=True).fill("red mug")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto(f"{PRODUCTS}{product.pk}/change/")
    page.get_by_role("link", name="History").last.click()
    change = page.locator(".cm-event").first
    expect(change).to_contain_text("manager")
    expect(change).to_contain_text("Product changed")
    expect(change.locator("del")).to_have_text("arrival")
    expect(change.locator("ins")).to_have_text("red mug")
    save_screenshot(page, "history-of-a-product")


def test_all_rows_of_a_list_are_judged_including_other_pages(sign_in: SignIn) -> None:
    candidate = make_product(is_historical=True, name="everywhere")
    for number in range(40):
        make_match(make_product(name=f"arrival {number}"), candidate, 60)
    page = sign_in("reviewer")
    page.goto("/admin/matching/match/?review_status__exact=pending")
    page.locator("#action-toggle").check()
    page.get_by_title("Click here to select the objects across all pages").click()
    page.locator("select[name=action]").select_option("reject")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text(re.compile("4[0-9] verdicts were saved."))).to_be_visible()
    assert not Match.objects.filter(review_status="pending").exists()


def sign_in_here(page: Page, role: str) -> None:
    user = user_in(role)
    user.set_password("right horse")
    user.save()
    page.fill("[name=username]", role)
    page.fill("[name=password]", "right horse")
    page.click("[type=submit]")


def test_session_that_expires_during_review_leads_back_to_the_case(sign_in: SignIn) -> None:
    page = sign_in("reviewer")
    page.goto(CASE)
    case = page.locator(".cm-asked h2").inner_text()
    Session.objects.all().delete()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended. Your last action was not saved.")
    save_screenshot(page, "session-ended")
    assert not Match.objects.exclude(review_status="pending").exists()

    sign_in_here(page, "reviewer")
    expect(page.locator(".cm-asked h2")).to_have_text(case)
    page.keyboard.press("Enter")
    expect(page.locator("[data-count=today]")).to_have_text("1")
    assert Match.objects.filter(review_status="confirmed").count() == 1
    assert Decision.history.count() == 1


def send_each(page: Page, *seeds: int) -> None:
    """Upload an image for each seed, each as its own product."""
    page.goto(f"{PRODUCTS}add/")
    page.get_by_label("Images", exact=True).set_input_files(
        [jpeg_file(f"{seed}.jpg", photograph(seed)) for seed in seeds]
    )
    page.get_by_text("Each image is a product of its own").click()
    page.get_by_role("button", name="Add", exact=True).click()


def test_upload_continues_after_the_session_expired(sign_in: SignIn) -> None:
    before = Product.objects.count()
    page = sign_in("uploader")
    page.goto(f"{PRODUCTS}add/")
    page.route("**/api/products/upload*", lambda route: (Session.objects.all().delete(), route.continue_())[1], times=1)
    send_each(page, 21)
    results = page.locator("#upload-results li")
    expect(results.first).to_contain_text("your session has ended")
    assert Product.objects.count() == before

    with page.expect_popup() as opened:
        results.first.get_by_role("link", name="Sign in").click()
    sign_in_here(opened.value, "uploader")
    opened.value.wait_for_url("**/admin/")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(results.first).to_contain_text("added")
    page.get_by_role("button", name="Add", exact=True).click()
    assert Product.objects.count() == before + 1


def test_tab_closed_during_an_upload_leaves_complete_products_without_duplicates(sign_in: SignIn) -> None:
    before = set(Product.objects.values_list("pk", flat=True))
    seeds = range(30, 42)
    page = sign_in("uploader")
    context = page.context
    send_each(page, *seeds)
    expect(page.locator("#upload-results .cm-state-ready").first).to_be_visible()
    page.close(run_before_unload=False)

    page = context.new_page()
    send_each(page, *seeds)
    expect(page.locator("#upload-results .cm-state-ready, #upload-results .cm-state-pending")).to_have_count(len(seeds))
    new = Product.objects.exclude(pk__in=before)
    assert sorted(new.values_list("name", flat=True)) == sorted(str(seed) for seed in seeds)
    for image in ProductImage.objects.filter(product__in=new):
        assert default_storage.exists(str(image.file.name))
        assert default_storage.exists(image.thumbnail_name)
