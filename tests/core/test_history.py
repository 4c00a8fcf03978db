"""The history: changes by admin, API, imports and commands, kept also for deleted objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.history.recording import ChangeSource, acting_as
from core.history.timeline import Entry, read_timeline
from matching import service
from matching.models import Match
from matching.review import verdicts
from products.images import intake
from products.images.cleaning import Upload
from products.models import Product, ProductImage
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import browser_of, make_case, make_match, make_product, save_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images

pytestmark = pytest.mark.django_db

LIST = "/admin/products/product/"


def entries(product_id: int) -> list[Entry]:
    """Return the history of a product and its images, newest first."""
    records = [Product.history.filter(id=product_id), ProductImage.history.filter(product_id=product_id)]
    return read_timeline(records).entries


def summary(entry: Entry) -> tuple[str | None, str, str, str]:
    """Return (user, source of the change, object, action)."""
    record = entry.record
    return (record.history_user and record.history_user.username, entry.source, entry.kind, record.history_type)


def changed(entry: Entry) -> dict[str, tuple[str, str]]:
    return {change.name: (change.old, change.new) for change in entry.changes}


# --- Users and sources ---------------------------------------------------------------------------


def test_api_change_is_recorded_for_the_token_owner() -> None:
    uploader = client_of("uploader")
    image = SimpleUploadedFile("front.jpg", jpeg(1), "image/jpeg")
    response = uploader.post("/api/products/upload?wait=0", {"image": image, "sku": "A-1"}, format="multipart")
    product_id = response.json()["product_id"]
    client_of("manager").patch(
        f"/api/products/{product_id}", {"name": "Mug", "attributes": {"colour": "blue", "size": 3}}
    )

    change, *additions = entries(product_id)
    assert summary(change) == ("manager", "API", "product", "~")
    assert changed(change) == {"name": ("", "Mug"), "colour": ("", "blue"), "size": ("", "3")}
    assert {summary(entry) for entry in additions} == {
        ("uploader", "API", "product", "+"),
        ("uploader", "API", "productimage", "+"),
    }


def test_admin_change_is_recorded_for_the_signed_in_user() -> None:
    product = make_product(name="Mug", sku="A-1", attributes={"colour": "red", "size": 3})
    save_product(product, name="Big mug", attributes='{"colour": "blue"}', **{"images-0-DELETE": "on"})

    removal, change, *_additions = entries(product.pk)
    assert summary(removal) == ("uploader", "admin", "productimage", "-")
    assert summary(change) == ("uploader", "admin", "product", "~")
    assert changed(change) == {"name": ("Mug", "Big mug"), "colour": ("red", "blue"), "size": ("3", "")}


def test_changes_of_an_import_are_recorded_as_import(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    table = write_csv(tmp_path / "table.csv", [{"image": "a.jpg", "sku": "A-1"}])
    call_command("import_products", str(table))
    assert {summary(entry) for entry in entries(Product.objects.get().pk)} == {
        (None, "import", "product", "+"),
        (None, "import", "productimage", "+"),
    }


def test_changes_within_acting_as_are_recorded_for_its_user_and_source() -> None:
    with acting_as(ChangeSource.IMPORT, user_in("manager")):
        product = make_product()
    intake.change_product(product, {"name": "Mug"})
    assert summary(entries(product.pk)[0]) == (None, "command", "product", "~")
    assert summary(entries(product.pk)[-1])[:2] == ("manager", "import")


# --- What is recorded ----------------------------------------------------------------------------


def test_save_without_changes_leaves_no_entry() -> None:
    product = make_product(name="Mug")
    before = len(entries(product.pk))
    intake.change_product(product, {"name": "Mug"})
    client_of("uploader").patch(f"/api/products/{product.pk}", {"name": "Mug"})
    assert len(entries(product.pk)) == before


def test_automatic_changes_leave_no_entry() -> None:
    old = intake.add_product([Upload(jpeg(1))], is_historical=True).product
    new = intake.add_product([Upload(jpeg(1, angle=4))]).product
    counts = [model.history.count() for model in (Product, ProductImage, Match)]
    call_command("reindex", "--all")
    service.match_product(new.pk)
    service.match_product(new.pk, threshold=100)
    assert counts == [2, 2, 0]
    assert [model.history.count() for model in (Product, ProductImage, Match)] == counts
    assert old.matched_by.count() == 0


def test_history_of_a_deleted_product_can_still_be_read() -> None:
    product, [match] = make_case(80, sku="A-1")
    verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"))
    client_of("uploader").delete(f"/api/products/{product.pk}")

    deletion, *_earlier = entries(product.pk)
    assert summary(deletion) == ("uploader", "API", "product", "-")
    # Its image and its match were deleted too: the one entry covers them.
    assert not ProductImage.history.filter(history_type="-").exists()
    page = browser_of("viewer").get(f"{LIST}{product.pk}/history/").content.decode()
    assert "Product deleted" in page
    assert "arrival" in page
    assert "confirmed" in page
    assert "arrival" in browser_of("viewer").get("/admin/history/?what=deleted").content.decode()


# --- Verdicts ------------------------------------------------------------------------------------


def verdict_entries(match: Match) -> list[tuple[str, str, str]]:
    """Return (user, verdict, previous verdict) of each decision, oldest first."""
    found = read_timeline([Match.history.filter(id=match.pk)]).entries
    return [(e.record.history_user.username, *reversed(changed(e)["verdict"])) for e in reversed(found)]


def test_every_verdict_is_recorded_with_its_user() -> None:
    _product, [match] = make_case(80)
    client_of("reviewer").patch(f"/api/matches/{match.pk}", {"review_status": "confirmed", "note": "same handle"})
    manager = browser_of("manager")
    for status in ("pending", "rejected", "rejected"):
        match.refresh_from_db()
        manager.post(f"/admin/matching/match/{match.pk}/verdict/?version={match.version}", {"status": status})
    assert verdict_entries(match) == [
        ("reviewer", "confirmed", "pending"),
        ("manager", "pending", "confirmed"),
        ("manager", "rejected", "pending"),
    ]


def test_repeated_verdict_changes_nothing() -> None:
    _product, [match] = make_case(80)
    first = verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"))
    again = verdicts.set_verdict(match.pk, "confirmed", user_in("manager"))
    assert (again.reviewer, again.reviewed_at) == (first.reviewer, first.reviewed_at)
    assert verdict_entries(match) == [("reviewer", "confirmed", "pending")]


def test_bulk_verdicts_are_recorded_one_by_one_in_few_queries() -> None:
    candidate = make_product(is_historical=True)
    matches = [make_match(make_product(), candidate) for _number in range(30)]
    verdicts.set_verdict(matches[0].pk, "rejected", user_in("manager"))
    reviewer = user_in("reviewer")
    with CaptureQueriesContext(connection) as queries:
        assert verdicts.set_verdicts(Match.objects.all(), "rejected", reviewer) == 29
    assert len(queries) <= 16
    assert verdict_entries(matches[0]) == [("manager", "rejected", "pending")]
    assert verdict_entries(matches[29]) == [("reviewer", "rejected", "pending")]
    assert Match.objects.filter(reviewer=reviewer, review_status="rejected").count() == 29


# --- Pages ---------------------------------------------------------------------------------------


def test_history_pages_show_user_time_and_values_before_and_after() -> None:
    product, [match] = make_case(80, sku="A-1")
    client_of("uploader").patch(f"/api/products/{product.pk}", {"name": "<b>Mug</b>"})
    verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"), "same handle")
    browser = browser_of("viewer")
    for path in (f"{LIST}{product.pk}/history/", f"{LIST}{match.candidate_id}/history/"):
        page = browser.get(path).content.decode()
        assert "Verdict (score 80.0)" in page
        assert "same handle" in page
    page = browser.get("/admin/history/").content.decode()
    assert "&lt;b&gt;Mug&lt;/b&gt;" in page
    assert ">arrival</del>" in page
    page = browser.get(f"/admin/matching/match/{match.pk}/history/").content.decode()
    assert "confirmed" in page
    assert "Product added" not in page


def test_long_history_is_paged_and_shows_each_entry_once() -> None:
    product = make_product()
    for number in range(25):
        intake.change_product(product, {"name": f"name {number}"})
    records = [Product.history.all(), ProductImage.history.all()]
    seen, before = [], ""
    while True:
        found = read_timeline(records, before, limit=7)
        seen += [(entry.kind, entry.record.history_id) for entry in found.entries]
        assert all(
            entry.changes for entry in found.entries if entry.kind == "product" and entry.record.history_type == "~"
        )
        if not found.older:
            break
        before = found.older
    assert len(seen) == len(set(seen)) == 27


def test_history_is_filtered_by_user_and_type() -> None:
    product, [match] = make_case(80)
    verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"))
    client_of("uploader").patch(f"/api/products/{product.pk}", {"category": "mugs"})
    browser = browser_of("viewer")
    who = User.objects.get(username="reviewer").pk
    assert [line.sentence for line in browser.get(f"/admin/history/?who={who}").context["lines"]] == [
        "Decision: the same"
    ]
    kinds = {line.entry.kind for line in browser.get("/admin/history/?what=products").context["lines"]}
    assert kinds == {"product"}
    assert browser.get("/admin/history/?who=x&what=y&before=z").status_code == 200


@pytest.mark.parametrize("count", [2, 40])
def test_history_needs_the_same_number_of_queries_for_any_length(
    count: int, django_assert_max_num_queries: Any
) -> None:
    for _number in range(count):
        _product, [match] = make_case(80)
        verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"))
    browser = browser_of("viewer")
    with django_assert_max_num_queries(16):
        lines = browser.get("/admin/history/").context["lines"]
    # Two products with an image each, and a decision with its verdict: five entries of three acts.
    assert len(lines) == min(3 * count, 60)
    assert sum(1 + len(line.also) for line in lines) == min(5 * count, 100)


def test_history_of_a_pending_match_says_that_it_is_empty() -> None:
    _product, [match] = make_case(80)
    page = browser_of("viewer").get(f"/admin/matching/match/{match.pk}/history/")
    assert "Nothing has changed yet." in page.content.decode()


def test_history_of_an_unknown_object_returns_404() -> None:
    assert browser_of("viewer").get(f"{LIST}999/history/").status_code == 404


# --- Retention -----------------------------------------------------------------------------------


def test_old_history_can_be_deleted() -> None:
    product = make_product(name="Mug")
    intake.change_product(product, {"name": "Big mug"})
    Product.history.filter(history_type="+").update(history_date="2020-01-01T00:00:00Z")
    call_command("clean_old_history", "--auto", "--days", "730", verbosity=0)
    assert [entry.record.history_type for entry in entries(product.pk) if entry.kind == "product"] == ["~"]
