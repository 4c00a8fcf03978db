"""Leases on review cases, so that two reviewers never judge the same product."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError
from django.db.models import Q
from django.utils import timezone

from core import clock
from matching.models import ReviewLease
from matching.review.queue import NO_FILTER, ReviewFilter, next_case

LEASE_DURATION = timedelta(minutes=10)  # the review page renews its leases; a closed browser lets them expire


def renew_lease(product_id: int, reviewer: AbstractBaseUser) -> bool:
    """Take or renew the lease on a case. Return False if another reviewer has it, or if there is no such product."""
    now = timezone.now()
    available = Q(reviewer_id=reviewer.pk) | clock.over("taken_at", LEASE_DURATION)
    values = {"reviewer_id": reviewer.pk, "taken_at": now}
    if ReviewLease.objects.filter(available, product_id=product_id).update(**values):
        return True
    try:
        lease, _created = ReviewLease.objects.get_or_create(product_id=product_id, defaults=values)
    except IntegrityError:  # no such product
        return False
    return bool(lease.reviewer_id == reviewer.pk)


def lease_holder(product_id: int) -> AbstractBaseUser | None:
    """Return the reviewer who has the lease on a case; None if it is free."""
    leases = ReviewLease.objects.filter(clock.within("taken_at", LEASE_DURATION), product_id=product_id)
    lease = leases.select_related("reviewer").first()
    return lease.reviewer if lease is not None else None


def release_leases(product_ids: Collection[int], reviewer: AbstractBaseUser) -> None:
    """Release this reviewer's leases on these cases."""
    ReviewLease.objects.filter(product__in=product_ids, reviewer_id=reviewer.pk).delete()


def lease_next_case(
    reviewer: AbstractBaseUser,
    review_filter: ReviewFilter = NO_FILTER,
    after: int | None = None,
    seen: Collection[int] | None = None,
) -> int | None:
    """Lease the next case for this reviewer. Return its product's id, or None. ``seen``: see ``next_case``."""
    ReviewLease.objects.filter(clock.over("taken_at", LEASE_DURATION)).delete()
    while True:
        others = ReviewLease.objects.exclude(reviewer_id=reviewer.pk)
        product_id = next_case(review_filter, after, excluding=others, seen=seen)
        if product_id is None or renew_lease(product_id, reviewer):
            return product_id
        # Another reviewer took the lease after the query: try the next case.
