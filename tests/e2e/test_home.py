"""Home and device page in a real browser: live numbers with links to lists, pause and retry."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from gpu.models import EmbeddingWorker, WorkerSample
from matching.models import Match
from matching.review import verdicts
from products.models import EmbeddingDay, Product, ProductImage
from products.queue import claims
from tests.e2e.conftest import SignIn, save_screenshot
from tests.helpers.accounts import user_in
from tests.helpers.rows import make_product

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]


def recent_work() -> None:
    """Create embedded images and verdicts on some recent days."""
    today = timezone.localdate()
    for ago, images in ((1, 40), (3, 120), (20, 7)):
        EmbeddingDay.objects.create(day=today - timedelta(days=ago), pictures=images)
    first = Match.objects.latest("pk")
    verdicts.set_verdict(first.pk, "confirmed", user_in("manager"))


def create_worker() -> None:
    now = timezone.now()
    worker = EmbeddingWorker.objects.create(
        name="host:1", started_at=now, heartbeat_at=now, device="cpu", rates=[10.0], clip_available=True
    )
    for ago in range(60):
        WorkerSample.objects.create(
            worker=worker, taken_at=now - timedelta(minutes=ago), memory_gb=1.5, images_per_second=10 + ago % 7
        )


def test_numbers_link_to_lists_of_as_many_rows(sign_in: SignIn) -> None:
    claims.set_paused(True, user_in("manager"))  # so that pending images stay pending
    make_product("failed", name="broken")
    make_product("pending", name="waits")
    recent_work()
    page = sign_in("manager")
    page.goto("/admin/")
    addresses = page.locator(".cm-home a:has(.cm-number)").evaluate_all(
        "links => links.map((link) => [link.getAttribute('href'), Number(link.querySelector('.cm-number').innerText)])"
    )
    waiting = page.locator("a.cm-number").evaluate_all(
        "links => links.map((link) => [link.getAttribute('href'), Number(link.innerText)])"
    )
    bands = page.locator("a.cm-band").evaluate_all(
        "links => links.map((link) => [link.getAttribute('href'), Number(link.querySelector('strong').innerText)])"
    )
    # The list counts products, so each of these states needs one image per product.
    one_image_each = {"pending", "claimed", "failed"}
    assert len(addresses) == 6
    assert len(bands) == 5
    # The chart counts decisions. Its list has a row for each match that they settled.
    cases = [(address, count) for address, count in [*waiting, *bands] if "/case/" in address]
    assert len(cases) == 6
    for address, count in cases:
        page.goto(address)
        if count:
            expect(page.locator("[data-count=left]")).to_have_text(str(count))
        else:
            expect(page.get_by_text("No other case waits for a decision.")).to_be_visible()
    for address, count in addresses:
        if "picture=" in address and address.rpartition("=")[2] not in one_image_each:
            continue
        page.goto(address)
        assert page.locator("#result_list tbody").count() == count, address
    page.goto("/admin/")
    page.get_by_role("link", name="1 case decided by you today").click()
    expect(page.locator("#result_list tbody")).to_have_count(Match.objects.filter(reviewed_at__isnull=False).count())


def test_home_shows_the_last_days_as_chart_and_as_text(sign_in: SignIn) -> None:
    recent_work()
    page = sign_in("viewer")
    page.goto("/admin/")
    embedded = page.get_by_role("img", name="Images embedded on each of the last 30 days")
    expect(embedded).to_be_visible()
    expect(embedded.locator("rect.cm-plot-bar")).to_have_count(3 + 1)  # one more day for the images of the catalogue
    rows = page.get_by_role("table", name="Images embedded").get_by_role("row")
    expect(rows).to_have_count(31)
    yesterday = timezone.localdate() - timedelta(days=1)
    expect(rows.filter(has_text=f"{yesterday:%b %Y}").filter(has_text="40")).to_have_count(1)
    save_screenshot(page, "home-activity")


def test_home_updates_without_loading_the_page(sign_in: SignIn) -> None:
    page = sign_in("manager")
    page.clock.install()
    page.goto("/admin/")
    page.evaluate("window.sameplace = true")
    failed = page.locator("a[href$='picture=failed'] .cm-number")
    expect(failed).to_have_text("0")
    make_product("failed", "failed")
    page.clock.run_for(15_000)
    expect(failed).to_have_text("2")
    assert page.evaluate("window.sameplace")


def test_queue_is_paused_and_resumed(sign_in: SignIn) -> None:
    create_worker()
    page = sign_in("uploader")
    page.goto("/admin/device/")
    page.get_by_role("button", name="Pause").click()
    expect(
        page.get_by_text("The queue is paused. Workers finish the images that they are embedding now.")
    ).to_be_visible()
    expect(page.get_by_text("uploader paused the queue")).to_be_visible()
    save_screenshot(page, "device-paused")
    assert claims.is_paused()
    page.goto("/admin/")
    expect(page.get_by_text("uploader paused the queue")).to_be_visible()
    page.goto("/admin/device/")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("The queue was resumed.")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert not claims.is_paused()


def test_failed_image_is_shown_with_its_reason_and_retried(sign_in: SignIn) -> None:
    image = ProductImage.objects.filter(product=Product.objects.get(name="arrival")).get()
    ProductImage.objects.filter(pk=image.pk).update(
        state="failed", error_code="worker_lost", error_message="The worker stopped."
    )
    make_product("failed", name="another")
    page = sign_in("uploader")
    page.goto("/admin/device/")
    expect(page.get_by_text("The worker stopped. (worker_lost)")).to_be_visible()
    page.get_by_role("button", name="Try the image of arrival again").click()
    expect(page.get_by_text("1 image was queued.")).to_be_visible()
    image.refresh_from_db()
    assert image.state == "ready"
    assert ProductImage.objects.filter(state="failed").count() == 1


def test_charts_of_memory_and_rate_have_their_numbers(sign_in: SignIn) -> None:
    create_worker()
    page = sign_in("viewer")
    page.goto("/admin/device/")
    for name, latest in (("Memory", "1.50 GB"), ("Rate", "10 images/s")):
        expect(page.get_by_role("img", name=f"{name} of each worker over the last 6 hours")).to_be_visible()
        expect(page.get_by_role("table", name=name)).to_contain_text(latest)
    expect(page.locator("polyline")).to_have_count(2)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    save_screenshot(page, "device-curves")
