"""The history is bounded: long values are shortened, and old entries are deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from core.history import retention
from core.history.shortening import MAX_JSON_BYTES, MAX_TEXT_LENGTH, REST, shorten
from core.history.timeline import Entry, read_timeline
from matching.models import Match
from matching.review import verdicts
from products.images import intake
from products.models import Product, ProductImage
from products.tasks import prune_history
from tests.helpers.accounts import client_of, user_in
from tests.helpers.commands import run
from tests.helpers.rows import browser_of, make_case, make_product

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def entries(product: Product) -> list[Entry]:
    return read_timeline([Product.history.filter(id=product.pk)]).entries


def changes(product: Product) -> dict[str, tuple[str, str]]:
    """Return the newest changes, as name → (old, new)."""
    return {change.name: (change.old, change.new) for change in entries(product)[0].changes}


def make_older(days: int) -> None:
    """Make all entries so many days older."""
    for history in retention.history_models():
        for record in history.objects.all():
            history.objects.filter(pk=record.pk).update(history_date=record.history_date - days * DAY)


# --- Size of an entry ----------------------------------------------------------------------------


def test_forty_changes_of_a_large_product_write_little_history() -> None:
    attributes = {f"name {number}": "x" * 200 for number in range(300)}
    product = make_product(name="0", attributes=attributes, description="d" * 20_000)
    api = client_of("uploader")
    before = retention.history_bytes()
    for number in range(40):
        changed = {"name": str(number), "attributes": attributes | {"name 7": str(number)}}
        assert api.patch(f"/api/products/{product.pk}", changed).status_code == 200
    assert Product.history.filter(id=product.pk).count() == 41
    assert retention.history_bytes() - before < 40 * (MAX_JSON_BYTES + MAX_TEXT_LENGTH + 1000)


def test_change_at_the_end_of_a_long_value_is_seen_and_marked() -> None:
    text = "x" * 5_000
    product = make_product(description=f"{text}a", attributes={"note": f"{text}a", "colour": "red"})
    intake.change_product(product, {"description": f"{text}b", "attributes": {"note": f"{text}b", "colour": "red"}})
    changed = changes(product)
    assert list(changed) == ["description", "note"]
    for old, new in changed.values():
        assert old != new
        assert "5,001 characters" in old
    page = browser_of("viewer").get(f"/admin/products/product/{product.pk}/history/").content.decode()
    assert page.count("It cannot be restored from here.") >= 2


def test_save_of_a_large_product_without_changes_leaves_no_entry() -> None:
    attributes: dict[str, Any] = {f"name {number}": ["x" * 500, number] for number in range(100)}
    product = make_product(attributes=attributes, description="é" * 10_000)
    client_of("uploader").patch(f"/api/products/{product.pk}", {"attributes": dict(reversed(attributes.items()))})
    assert len(entries(product)) == 1


def test_change_beyond_the_kept_attributes_is_seen() -> None:
    attributes = {f"name {number:03}": "x" * 300 for number in range(100)}
    product = make_product(attributes=attributes)
    intake.change_product(product, {"attributes": attributes | {"name 099": "y"}})
    assert list(changes(product)) == [REST]
    intake.change_product(product, {"attributes": {"name 099": "y", "name 000": "z"}})
    assert changes(product)["name 000"][1] == "z"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1},
        {"a": "x" * 10_000},
        {"a": [["x" * 900]]},
        {f"é{n}" * 3: "é" * 390 for n in range(500)},
        ["x" * 900],
    ],
)
def test_shortening_twice_is_shortening_once(value: Any) -> None:
    field = Product._meta.get_field("attributes")
    once = shorten(field, value)
    assert shorten(field, once) == once
    assert len(str(once)) < MAX_JSON_BYTES + 1000


def test_entry_written_whole_by_an_earlier_version_is_compared_with_a_shortened_one() -> None:
    product = make_product(attributes={"note": "x" * 5_000})
    Product.history.update(attributes=product.attributes)
    intake.change_product(product, {"attributes": product.attributes})
    assert len(entries(product)) == 1
    intake.change_product(product, {"name": "Mug"})
    assert list(changes(product)) == ["name"]


def test_deletion_of_large_products_writes_little_history() -> None:
    for _number in range(3):
        make_product(sku="", name="Mug", attributes={"note": "x" * 60_000}, description="d" * 20_000)
    before = retention.history_bytes()
    Product.objects.all().delete()
    assert Product.history.filter(history_type="-", name="Mug").count() == 3
    assert retention.history_bytes() - before < 3_000


def test_entry_with_many_changes_shows_fifty_and_counts_the_others() -> None:
    product = make_product()
    intake.change_product(product, {"attributes": {f"name {number}": "x" for number in range(120)}})
    [change, _creation] = entries(product)
    assert (len(change.changes), change.omitted) == (50, 70)
    page = browser_of("viewer").get(f"/admin/products/product/{product.pk}/history/").content.decode()
    assert "and 70 more changes" in page


# --- Age and quota -------------------------------------------------------------------------------


def test_nothing_is_deleted_by_default() -> None:
    product = make_product(name="Mug")
    intake.change_product(product, {"name": "Cup"})
    make_older(days=10_000)
    prune_history()
    assert len(entries(product)) == 2


def test_entries_over_the_age_are_deleted_but_the_newest_of_each_row(settings: Settings) -> None:
    settings.HISTORY_DAYS = 730
    product, [match] = make_case(80)
    for name in ("Cup", "Big cup"):
        intake.change_product(product, {"name": name})
    verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"))
    gone = make_product(name="gone")
    gone.delete()
    make_older(days=731)
    intake.change_product(product, {"name": "Mug"})
    prune_history()
    assert [entry.record.name for entry in entries(product)] == ["Mug"]
    assert not Product.history.filter(name="gone").exists()
    assert not ProductImage.history.filter(product_id=gone.pk).exists()
    assert Match.history.count() == 1
    make_older(days=731)
    prune_history()
    intake.change_product(product, {"category": "mugs"})
    assert changes(product) == {"category": ("", "mugs")}


def test_history_over_its_quota_loses_the_oldest_entries(settings: Settings) -> None:
    product = make_product()
    for number in range(100):
        intake.change_product(product, {"name": f"{number}", "description": "d" * 1_000})
    quota = retention.history_bytes() // 2
    settings.QUOTA_BYTES = settings.QUOTA_BYTES | {"history": quota}
    assert "Deleted" in run("prune_history").out
    assert 0.7 * quota < retention.history_bytes() <= 0.8 * quota
    kept = [entry.record.name for entry in entries(product)]
    assert kept == [f"{number}" for number in range(99, 99 - len(kept), -1)]
    assert retention.prune() == 0


def test_history_page_says_how_far_it_reaches_back(settings: Settings) -> None:
    make_product(name="Mug")
    make_older(days=40)
    browser = browser_of("viewer")
    page = browser.get("/admin/history/").content.decode()
    reach = timezone.localtime(timezone.now() - 40 * DAY)
    assert f"The history reaches back to {reach.day} {reach:%b %Y}." in page
    assert "Entries are kept" not in page
    settings.HISTORY_DAYS = 90
    settings.QUOTA_BYTES = settings.QUOTA_BYTES | {"history": 50 * 2**20}
    page = browser.get("/admin/history/").content.decode()
    assert "Entries are kept for 90 days." in page
    assert "more than 50.0" in page
