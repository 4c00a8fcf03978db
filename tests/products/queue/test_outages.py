"""While the database rejects writes, images stay pending and no attempt is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, ProductImage
from products.queue import claims
from products.queue.embed import embed_pending
from products.tasks import notifications_suspended
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def failing(statement: str, times: int = 1000) -> Iterator[None]:
    """Let the next ``times`` statements with this prefix fail, as on a full disk."""
    left = times

    def fail(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        nonlocal left
        if sql.startswith(statement) and left:
            left -= 1
            raise OperationalError("database or disk is full")
        return execute(sql, *arguments)

    with connection.execute_wrapper(fail):
        yield


@pytest.fixture
def pending_images() -> list[int]:
    """Create pending images. Return their ids."""
    with notifications_suspended():
        return [image.pk for image in add_product([Upload(jpeg(seed)) for seed in range(3)]).images]


def states() -> set[tuple[str, int]]:
    return set(ProductImage.objects.values_list("state", "attempts"))


def test_images_are_not_failed_however_often_their_features_cannot_be_stored(pending_images: list[int]) -> None:
    with failing('INSERT INTO "features"'):
        for _ in range(5):
            with pytest.raises(OperationalError):
                embed_pending()
    assert states() == {("pending", 0)}
    assert embed_pending() == len(pending_images)
    assert Feature.objects.count() == len(pending_images)


def test_release_is_retried(pending_images: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RELEASE_RETRY_SECONDS", (0, 0, 0))
    batch = claims.claim_images(10)
    assert batch is not None
    with failing('UPDATE "product_images"', times=2):
        claims.release(batch)
    assert states() == {("pending", 0)}


def test_claim_that_cannot_be_released_waits_for_the_end_of_its_lease(
    pending_images: list[int], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(claims, "RELEASE_RETRY_SECONDS", (0, 0, 0))
    batch = claims.claim_images(10)
    assert batch is not None
    with failing('UPDATE "product_images"'):
        claims.release(batch)
    assert states() == {("claimed", 1)}
    settings.CLAIM_LEASE_SECONDS = 0
    assert claims.release_stale_claims() == len(pending_images)
    assert embed_pending() == len(pending_images)
