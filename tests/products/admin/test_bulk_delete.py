"""Deleting selected rows of a list: confirmed first, then at once for a few and in the background for many."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from matching.models import Match
from matching.review import verdicts
from products import deletion_jobs, tasks
from products.images import intake, storage
from products.images.cleaning import Upload
from products.models import Deletion, DeletionStep, Feature, Product, ProductImage
from tests.helpers.accounts import user_in
from tests.helpers.files import files_in
from tests.helpers.jobs import wait_for_jobs
from tests.helpers.rows import browser_of, make_match, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True)

PRODUCTS = "/admin/products/product/"
MATCHES = "/admin/matching/match/"


@pytest.fixture
def browser() -> Client:
    return browser_of("uploader")


@pytest.fixture
def _many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three rows count as many, in batches of two."""
    monkeypatch.setattr(deletion_jobs, "INLINE_LIMIT", 2)
    monkeypatch.setattr(deletion_jobs, "BATCH_SIZE", 2)


def select_and_delete(browser: Client, rows: list[Any], address: str = PRODUCTS, **fields: str) -> Any:
    """Select these rows and the action to delete them. Return the confirmation page."""
    chosen = {"action": "delete_selected", "_selected_action": [str(row.pk) for row in rows]}
    return browser.post(address, chosen | fields)


def confirm(browser: Client, rows: list[Any], address: str = PRODUCTS, **fields: str) -> Any:
    """Confirm the deletion and wait for its end. Return the response."""
    response = select_and_delete(browser, rows, address, expected=str(len(rows)), **fields)
    wait_for_jobs()
    return response


def deleted(response: Any) -> dict[str, int]:
    """Return the number of deleted rows by type from the page of a deletion."""
    return dict(response.context["job"].deleted)


def uploaded(number: int) -> Product:
    return intake.add_product([Upload(jpeg(number)), Upload(jpeg(number + 50))], sku=f"N-{number}").product


def test_confirmation_page_lists_what_will_be_deleted(browser: Client) -> None:
    gone, remaining = make_product("ready", "failed", name="mug"), make_product(name="cup")
    make_match(remaining, gone)
    response = select_and_delete(browser, [gone])
    assert dict(response.context["counts"]) == {"products": 1, "images": 2, "matches": 1}
    assert "mug" in response.content.decode()
    assert Product.objects.count() == 2


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.usefixtures("_many")
def test_selected_products_are_deleted_with_all_their_rows_and_files(browser: Client, media: Path, count: int) -> None:
    remaining = uploaded(20)
    before = files_in(media)
    rows = [uploaded(number) for number in range(1, count + 1)]
    for row in rows:
        make_match(row, remaining)
        make_match(remaining, row)
    other = make_match(remaining, make_product(is_historical=True))

    response = confirm(browser, rows)

    if count > deletion_jobs.INLINE_LIMIT:
        page = browser.get(response["Location"])
        assert deleted(page) == {"products": count, "images": 2 * count, "matches": 2 * count}
    assert not Product.objects.filter(pk__in=[row.pk for row in rows]).exists()
    assert list(Match.objects.all()) == [other]
    assert set(ProductImage.objects.values_list("product", flat=True)) == {remaining.pk, other.candidate_id}
    assert set(Feature.objects.values_list("product", flat=True)) == {remaining.pk}
    assert files_in(media) == before
    entries = Product.history.filter(history_type="-")
    entry_values = entries.values_list("id", "sku", "history_user__username", "history_change_reason")
    assert set(entry_values) == {(row.pk, row.sku, "uploader", "admin") for row in rows}
    assert not ProductImage.history.filter(history_type="-").exists()


@pytest.mark.usefixtures("_many")
def test_all_rows_of_a_filtered_list_are_deleted_together(browser: Client) -> None:
    rows = [make_product(category="mugs") for _ in range(5)]
    remaining = make_product(category="cups")
    response = confirm(browser, rows[:1], f"{PRODUCTS}?category=mugs", select_across="1")
    assert "The list has changed" in response.content.decode()  # one row was expected, five are found
    response = select_and_delete(browser, rows[:1], f"{PRODUCTS}?category=mugs", select_across="1", expected="5")
    wait_for_jobs()
    assert deleted(browser.get(response["Location"]))["products"] == 5
    assert Product.objects.get() == remaining


@pytest.mark.usefixtures("_many")
def test_deleted_matches_with_verdicts_are_recorded_in_the_history() -> None:
    manager, products = user_in("manager"), [make_product() for _ in range(5)]
    matches = [make_match(product, products[0]) for product in products[1:]]
    verdicts.set_verdict(matches[0].pk, "confirmed", manager)
    confirm(browser_of(manager), matches, MATCHES)
    assert not Match.objects.exists()
    assert Product.objects.count() == 5
    assert list(Match.history.filter(history_type="-").values_list("id", "history_user")) == [
        (matches[0].pk, manager.pk)
    ]


@pytest.mark.usefixtures("_many")
def test_stopped_deletion_keeps_the_remaining_rows_intact(
    browser: Client, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [uploaded(number) for number in range(1, 6)]
    delete_files = storage.delete_files

    def stop_during_deletion(names: list[str]) -> None:
        """Stop the deletion when it deletes the files of a batch, after its commit."""
        delete_files(names)
        job = Deletion.objects.get()
        browser.post(f"{PRODUCTS}deletion/{job.pk}/stop/")

    monkeypatch.setattr(storage, "delete_files", stop_during_deletion)
    page = browser.get(confirm(browser, rows)["Location"])

    assert "Stopped after 2 of 5 rows." in page.content.decode()
    assert deleted(page) == {"products": 2, "images": 4}
    assert set(Product.objects.all()) == set(rows[2:])
    assert len(files_in(media)) == 3 * 2 * 2


@pytest.mark.usefixtures("_many")
def test_deletion_resumes_after_a_restart(browser: Client) -> None:
    rows = [make_product() for _ in range(5)]
    job = Deletion.objects.create(user=user_in("uploader"), label="products.Product", total=7, done=2)
    for first in (0, 2):
        job.steps.create(ids=[row.pk for row in rows[first : first + 2]])
    address = f"{PRODUCTS}deletion/{job.pk}/"
    assert "Your deletion is running: 2 of 7 rows." in browser.get(PRODUCTS).content.decode()
    browser.post(f"{address}run/")
    wait_for_jobs()
    assert Product.objects.count() == 5  # the job is still active, so it is not resumed

    Deletion.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert "Continue" in browser.get(address).content.decode()
    browser.post(f"{address}run/")
    wait_for_jobs()
    assert list(Product.objects.all()) == rows[4:]
    assert "All selected rows are deleted." in browser.get(address).content.decode()


def test_match_judged_during_the_deletion_is_not_deleted_as_pending() -> None:
    match, reviewer, judged = make_match(make_product(), make_product()), user_in("reviewer"), threading.Event()

    def judge() -> None:
        with transaction.atomic():
            verdicts.set_verdict(match.pk, "confirmed", reviewer)
            judged.set()
            time.sleep(0.3)  # by now the deletion has read the pending match and waits for its lock

    def delete_pending() -> None:
        judged.wait()
        Match.objects.filter(review_status="pending").delete()

    run_concurrently(judge, delete_pending)
    assert Match.objects.get().review_status == "confirmed"


def test_page_shows_progress_and_reloads_at_the_end(browser: Client) -> None:
    job = Deletion.objects.create(user=user_in("uploader"), label="products.Product", total=200, done=40)
    address, htmx_headers = f"{PRODUCTS}deletion/{job.pk}/", {"HX-Request": "true"}
    fragment = browser.get(address, headers=htmx_headers).content.decode()
    assert "40 of 200 rows" in fragment
    assert "<html" not in fragment
    Deletion.objects.update(state="done")
    assert browser.get(address, headers=htmx_headers).headers["HX-Refresh"] == "true"


def test_user_without_delete_permission_cannot_stop_a_deletion() -> None:
    job = Deletion.objects.create(user=user_in("reviewer"), label="products.Product", total=200)
    assert browser_of("reviewer").post(f"{PRODUCTS}deletion/{job.pk}/stop/").status_code == 403


def test_finished_deletion_is_removed_after_a_day() -> None:
    yesterday = timezone.now() - timedelta(hours=25)
    job = Deletion.objects.create(user=user_in("uploader"), label="products.Product", total=1, heartbeat_at=yesterday)
    Deletion.objects.update(created_at=yesterday)
    DeletionStep.objects.create(deletion=job, ids=[1])
    tasks.sweep()
    assert not DeletionStep.objects.exists()
