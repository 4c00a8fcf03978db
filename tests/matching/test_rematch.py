"""Match now for many selected products: by the workers, or later if there are none."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import OperationalError
from pytest_django import Settings

from matching import tasks
from matching.admin import matches
from matching.models import Match
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> list[Product]:
    """Create two unmatched new products that look like a historical one, and let two count as many."""
    monkeypatch.setattr(matches, "INLINE_LIMIT", 1)
    add_product([Upload(jpeg(1))], is_historical=True)
    products = [add_product([Upload(jpeg(1))]).product for _ in range(2)]
    Match.objects.all().delete()
    return products


def match_all() -> str:
    """Run *Match now* on every product of the list. Return the message of the page."""
    chosen = {"_selected_action": [product.pk for product in Product.objects.all()], "action": "match_now"}
    response: Any = browser_of("uploader").post("/admin/products/product/", chosen, follow=True)
    return str(response.content.decode())


def waiting() -> set[int]:
    return set(Product.objects.filter(unmatched_since__isnull=False).values_list("pk", flat=True))


def test_workers_match_many_products(arrivals: list[Product], settings: Settings) -> None:
    settings.HAS_BROKER = True
    make_product("pending")  # cannot be matched without features
    assert "2 new products will be matched." in match_all()
    assert set(Match.objects.values_list("product", flat=True)) == {product.pk for product in arrivals}
    assert not waiting()


def test_without_workers_many_products_are_left_to_the_command(arrivals: list[Product]) -> None:
    assert "2 new products wait to be matched." in match_all()
    assert waiting() == {product.pk for product in arrivals}


@pytest.mark.usefixtures("redis_comes_back")
def test_products_wait_for_the_sweep_while_redis_is_down(
    arrivals: list[Product], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused")

    settings.HAS_BROKER = True
    with monkeypatch.context() as away:
        away.setattr(tasks.match_unmatched, "apply_async", fail)
        assert "2 new products will be matched." in match_all()
    assert waiting() == {product.pk for product in arrivals}
    tasks.match_unmatched()
    assert not waiting()
