"""Daily work in a real browser: upload, review matches by button and by key, delete."""

from __future__ import annotations

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import FilePayload, Route, expect

from matching.models import Match
from products import deletion_jobs
from products.models import Product
from tests.e2e.conftest import SignIn, photograph, save_screenshot
from tests.helpers.jobs import wait_for_jobs

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]


def jpeg_file(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def test_image_chosen_before_the_page_is_ready_is_shown(sign_in: SignIn) -> None:
    page = sign_in("manager")
    held: list[Route] = []
    page.route("**/dropzone*.js", lambda route: held.append(route))
    with page.expect_request("**/dropzone*.js"):
        page.goto("/admin/products/product/add/", wait_until="commit")
    page.get_by_label("Images", exact=True).set_input_files(jpeg_file("mug.jpg", photograph(2)))
    held[0].continue_()
    expect(page.locator(".cm-drop-list img")).to_have_count(1)


def test_uploaded_image_gets_matches_and_one_is_confirmed(sign_in: SignIn) -> None:
    page = sign_in("manager")
    page.goto("/admin/")
    page.get_by_role("link", name="Upload a product").click()
    page.get_by_label("Images", exact=True).set_input_files(jpeg_file("mug.jpg", photograph(2, angle=5)))
    expect(page.locator(".cm-drop-list img")).to_have_count(1)
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    page.get_by_label("Name", exact=True).fill("something new")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("The product was added.")).to_be_visible()
    expect(page.locator(".cm-strip .cm-name").first).to_have_text("product 2")
    save_screenshot(page, "product")

    page.get_by_role("link", name="Review side by side").click()
    expect(page.locator(".cm-candidate:visible h3")).to_have_text("product 2")
    page.get_by_role("button", name="The same").click()
    expect(page.locator(".cm-asked h2")).to_have_text("arrival")  # the next case
    save_screenshot(page, "case")
    match = Match.objects.get(product__name="something new", candidate__name="product 2")
    assert match.review_status == "confirmed"
    assert match.reviewer is not None
    assert match.reviewer.username == "manager"


def test_rejected_upload_shows_the_reason_on_the_same_page(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    page.goto("/admin/products/product/add/")
    page.get_by_label("Images", exact=True).set_input_files(jpeg_file("notes.jpg", b"text"))
    page.get_by_label("Name", exact=True).fill("kept")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("notes.jpg: The file is not an image.")
    expect(page.get_by_label("Name", exact=True)).to_have_value("kept")


def test_each_of_many_files_becomes_a_product_and_shows_its_result(sign_in: SignIn) -> None:
    before = Product.objects.count()
    page = sign_in("uploader")
    page.goto("/admin/products/product/add/")
    page.get_by_label("Images", exact=True).set_input_files(
        [
            jpeg_file("red mug.jpg", photograph(7)),
            jpeg_file("notes.jpg", b"text"),
            jpeg_file("same again.jpg", photograph(2)),
        ]
    )
    page.get_by_text("Each image is a product of its own").click()
    expect(page.get_by_label("SKU")).to_be_hidden()
    page.get_by_label("Category").fill("mugs")
    page.get_by_role("button", name="Add", exact=True).click()
    results = page.locator("#upload-results li")
    expect(results.nth(0)).to_contain_text("red mug.jpg added")
    expect(results.nth(1)).to_contain_text("The file is not an image.")
    expect(results.nth(2)).to_contain_text("the same image belongs to")
    save_screenshot(page, "upload-many")
    assert Product.objects.count() == before + 1
    assert Product.objects.get(name="red mug").category == "mugs"
    results.nth(2).get_by_role("link").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("product 2")


def test_image_is_added_on_the_product_page(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    product = Product.objects.get(name="arrival")
    page.goto(f"/admin/products/product/{product.pk}/change/")
    page.get_by_text("Add an image").click()
    page.get_by_role("button", name="Images").set_input_files(jpeg_file("side.jpg", photograph(1, angle=40)))
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("The image was added.")).to_be_visible()
    expect(page.locator(".cm-shot")).to_have_count(2)


def test_list_is_judged_row_by_row_without_leaving_the_page(sign_in: SignIn) -> None:
    page = sign_in("reviewer")
    page.goto("/admin/matching/match/?review_status__exact=pending")
    page.evaluate("window.sameplace = true")
    row = page.locator("#result_list tbody").first
    row.get_by_role("button", name="Reject").click()
    expect(row.get_by_role("status")).to_have_text("rejected")
    row.get_by_role("button", name="Undo the verdict").click()
    expect(row.get_by_role("status")).to_have_text("pending")
    row.get_by_role("button", name="Confirm").click()
    expect(row.get_by_role("status")).to_have_text("confirmed")
    save_screenshot(page, "matches")
    assert page.evaluate("window.sameplace")
    assert Match.objects.get(review_status="confirmed").candidate.name == "product 1"


def test_selected_rows_are_judged_together(sign_in: SignIn) -> None:
    page = sign_in("reviewer")
    page.goto("/admin/matching/match/")
    boxes = page.locator("input.action-select")
    expect(boxes).to_have_count(2)
    for number in range(2):
        boxes.nth(number).check()
    page.locator("select[name=action]").select_option("reject")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("2 verdicts were saved.")).to_be_visible()
    assert not Match.objects.exclude(review_status="rejected").exists()


def test_page_shows_the_progress_of_a_large_deletion(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion_jobs, "INLINE_LIMIT", 1)
    page = sign_in("uploader")
    page.goto("/admin/products/product/")
    count = Product.objects.count()
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("delete_selected")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("So many rows are deleted in the background.")).to_be_visible()
    save_screenshot(page, "delete-many")
    page.get_by_role("button", name="Yes, delete").click()
    expect(page.get_by_text("All selected rows are deleted.")).to_be_visible(timeout=15_000)
    expect(page.locator(".cm-facts")).to_contain_text(str(count))
    page.get_by_role("link", name="Back to the list").click()
    assert not Product.objects.exists()
    wait_for_jobs()


def test_case_is_decided_by_keyboard(sign_in: SignIn) -> None:
    page = sign_in("reviewer")
    page.goto("/admin/matching/match/case/")
    page.keyboard.press("Enter")
    expect(page.locator("[data-count=today]")).to_have_text("1")
    expect(page.get_by_role("alert")).to_have_text("No other case waits for a decision.")
    page.keyboard.press("u")
    expect(page.locator("[data-count=today]")).to_have_text("0")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("[data-count=today]")).to_have_text("1")
    confirmed = Match.objects.filter(review_status="confirmed").values_list("candidate__name", flat=True)
    assert list(confirmed) == ["product 1b"]
    assert not Match.objects.filter(review_status="pending").exists()


def test_expired_session_leads_to_the_sign_in_and_stores_nothing(sign_in: SignIn) -> None:
    page = sign_in("reviewer")
    page.goto("/admin/matching/match/case/")
    Session.objects.all().delete()
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/login/?ended=1&next=%2Fadmin%2Fmatching%2Fmatch%2Fcase%2F*")
    assert not Match.objects.exclude(review_status="pending").exists()
