"""Time limits end although the clock was set back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from catalogmatch.api import throttling
from core import clock
from matching.models import ReviewLease
from matching.review.leases import lease_holder, renew_lease
from products.models import Import, Product, ProductImage
from products.queue.claims import release_stale_claims

TOMORROW = timedelta(days=1)


def test_steady_time_follows_the_time_of_day():
    assert abs(clock.steady_now() - timezone.now()) < timedelta(seconds=5)


@pytest.mark.django_db
def test_review_lease_from_before_the_clock_was_set_back_is_free():
    first, second = User.objects.create(username="first"), User.objects.create(username="second")
    product = Product.objects.create()
    ReviewLease.objects.create(product=product, reviewer=first, taken_at=timezone.now() + TOMORROW)
    assert lease_holder(product.pk) is None
    assert renew_lease(product.pk, second)


@pytest.mark.django_db
def test_job_with_a_heartbeat_in_the_future_is_stale():
    user = User.objects.create(username="importer")
    job = Import.objects.create(user=user, state=Import.State.RUNNING, heartbeat_at=timezone.now() + TOMORROW)
    assert job.is_stale
    assert job.take_over()


@pytest.mark.django_db
def test_claim_in_the_future_is_released():
    image = ProductImage.objects.create(
        product=Product.objects.create(), file="a.jpg", sha256="0" * 64, file_sha256="0" * 64, width=64, height=64,
        state="claimed", claimed_at=timezone.now() + TOMORROW, claim_token="00000000-0000-0000-0000-000000000001",
    )  # fmt: skip
    assert release_stale_claims() == 1
    image.refresh_from_db()
    assert image.state == "pending"


def test_requests_in_the_future_do_not_count_for_a_throttle():
    history = throttling._History("process")
    history.set("key", [timezone.now().timestamp() + 86_400] * 5, 60)
    assert history.get("key", []) == []
