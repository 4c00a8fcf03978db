"""Who has which case in front of them, so that two reviewers at once never get the same one.

A turn is a lease: it is taken with the case, renewed while the page is open, given up when it is left, and over
after ``TURN`` for whoever never came back.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.utils import timezone

from matching.models import ReviewLease
from matching.review.queue import NO_FILTER, ReviewFilter, next_case

LEASE_DURATION = timedelta(minutes=10)


def renew_lease(product_id: int, reviewer: AbstractBaseUser) -> bool:
    """Take or renew the turn at a product's case; whether it is this reviewer's now."""
    now = timezone.now()
    free = Q(reviewer_id=reviewer.pk) | Q(taken_at__lte=now - LEASE_DURATION)
    mine = {"reviewer_id": reviewer.pk, "taken_at": now}
    if ReviewLease.objects.filter(free, product_id=product_id).update(**mine):
        return True
    turn, _created = ReviewLease.objects.get_or_create(product_id=product_id, defaults=mine)
    return bool(turn.reviewer_id == reviewer.pk)


def lease_holder(product_id: int) -> AbstractBaseUser | None:
    """Who has this case in front of them."""
    turn = ReviewLease.objects.filter(product_id=product_id, taken_at__gt=timezone.now() - LEASE_DURATION)
    found = turn.select_related("reviewer").first()
    return found.reviewer if found is not None else None


def release_leases(product_ids: Collection[int], reviewer: AbstractBaseUser) -> None:
    """Give up this reviewer's turns at these cases."""
    ReviewLease.objects.filter(product__in=product_ids, reviewer_id=reviewer.pk).delete()


def lease_next_case(
    reviewer: AbstractBaseUser, selection: ReviewFilter = NO_FILTER, after: int | None = None
) -> int | None:
    """The next case of the selection for this reviewer alone; None for none. Nobody else gets it before it is left."""
    ReviewLease.objects.filter(taken_at__lte=timezone.now() - LEASE_DURATION).delete()
    while True:
        product_id = next_case(selection, after, without=ReviewLease.objects.exclude(reviewer_id=reviewer.pk))
        if product_id is None or renew_lease(product_id, reviewer):
            return product_id
        # Somebody took it between the look and the taking: there is another.
