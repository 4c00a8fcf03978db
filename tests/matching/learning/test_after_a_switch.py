"""After a switch, undecided new products are searched again in the background, and decisions stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from gpu.models import ModelVersion
from matching import tasks
from matching.models import Match
from matching.review import verdicts
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.commands import run
from tests.helpers.vectors import add_product
from tests.matching.learning.test_heads import VIEWS, photographs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def arrivals() -> list[Product]:
    """Create a catalogue with a head in the shadow, and four new products that are matched."""
    views = photographs()
    for of_one in views:
        add_product(*of_one[:VIEWS])
    new = [add_product(of_one[VIEWS], historical=False) for of_one in views[:4]]
    assert run("train_head").code == 0
    assert run("match_products", "--all").code == 0
    return new


def decide(product: Product, status: str) -> Match:
    match = product.matches.order_by("rank").first()
    assert match is not None
    verdicts.set_verdict(match.pk, status, user_in("reviewer"), "seen")
    return match


def head() -> str:
    return ModelVersion.objects.get().name


def test_workers_search_undecided_products_again(arrivals: list[Product], settings: Settings) -> None:
    settings.HAS_BROKER = True
    confirmed = decide(arrivals[0], "confirmed")
    assert run("switch_model", head()).code == 0
    assert not Product.objects.filter(unmatched_since__isnull=False).exists()
    by_product = {product.pk: set(product.matches.values_list("feature_type", "model_name")) for product in arrivals}
    assert by_product[arrivals[0].pk] == {("legacy", "legacy-1")}
    assert [by_product[product.pk] for product in arrivals[1:]] == [{("head", head())}] * 3
    confirmed.refresh_from_db()
    assert (confirmed.review_status, confirmed.note) == ("confirmed", "seen")


def test_decisions_outlive_a_switch_and_a_roll_back(arrivals: list[Product]) -> None:
    rejected = decide(arrivals[1], "rejected")
    for command in (["switch_model", head()], ["match_products"], ["rollback_model"], ["match_products"]):
        assert run(*command).code == 0
        rejected.refresh_from_db()
        assert (rejected.review_status, rejected.note) == ("rejected", "seen")
    assert set(Match.objects.filter(review_status="pending").values_list("model_name", flat=True)) == {"legacy-1"}


def test_without_workers_the_command_searches_again(arrivals: list[Product]) -> None:
    decide(arrivals[0], "confirmed")
    assert run("switch_model", head()).code == 0
    assert Product.objects.filter(unmatched_since__isnull=False).count() == 3
    assert "Matched 3 products." in run("match_products").out


def test_queries_wait_for_one_product_only_while_many_are_searched_again(
    arrivals: list[Product], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HAS_BROKER = True
    monkeypatch.setattr(tasks, "MAX_TASK_SECONDS", 0)
    sent: list[list[int]] = []
    monkeypatch.setattr(tasks.match_unmatched, "apply_async", lambda arguments, *_, **__: sent.append(arguments[0]))
    Product.objects.filter(pk__in=[product.pk for product in arrivals]).update(unmatched_since="2026-01-01T00:00:00Z")
    tasks.match_unmatched()
    assert [len(ids) for ids in sent] == [3]  # one was matched, the rest is a message
    assert Product.objects.filter(unmatched_since__isnull=False).count() == 3


def test_decisions_of_a_candidate_stay_if_its_images_are_replaced(arrivals: list[Product], tmp_path: Path) -> None:
    confirmed = decide(arrivals[0], "confirmed")
    confirmed.candidate.images.all().delete()
    assert run("switch_model", head()).code == 0
    confirmed.refresh_from_db()
    assert confirmed.review_status == "confirmed"
