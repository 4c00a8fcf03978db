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

from matching.models import ReviewTurn
from matching.review.queue import ALL, Selection, next_case

TURN = timedelta(minutes=10)


def hold(product_id: int, reviewer: AbstractBaseUser) -> bool:
    """Take or renew the turn at a product's case; whether it is this reviewer's now."""
    now = timezone.now()
    free = Q(reviewer_id=reviewer.pk) | Q(taken_at__lte=now - TURN)
    mine = {"reviewer_id": reviewer.pk, "taken_at": now}
    if ReviewTurn.objects.filter(free, product_id=product_id).update(**mine):
        return True
    turn, _created = ReviewTurn.objects.get_or_create(product_id=product_id, defaults=mine)
    return bool(turn.reviewer_id == reviewer.pk)


def holder(product_id: int) -> AbstractBaseUser | None:
    """Who has this case in front of them."""
    turn = ReviewTurn.objects.filter(product_id=product_id, taken_at__gt=timezone.now() - TURN)
    found = turn.select_related("reviewer").first()
    return found.reviewer if found is not None else None


def release(product_ids: Collection[int], reviewer: AbstractBaseUser) -> None:
    """Give up this reviewer's turns at these cases."""
    ReviewTurn.objects.filter(product__in=product_ids, reviewer_id=reviewer.pk).delete()


def take(reviewer: AbstractBaseUser, selection: Selection = ALL, after: int | None = None) -> int | None:
    """The next case of the selection for this reviewer alone; None for none. Nobody else gets it before it is left."""
    ReviewTurn.objects.filter(taken_at__lte=timezone.now() - TURN).delete()
    while True:
        product_id = next_case(selection, after, without=ReviewTurn.objects.exclude(reviewer_id=reviewer.pk))
        if product_id is None or hold(product_id, reviewer):
            return product_id
        # Somebody took it between the look and the taking: there is another.
