"""Count automatic decisions by day, and undo all of a day at once."""

from __future__ import annotations

from datetime import date, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet

from core.database.batches import iter_pk_batches
from matching.models import Decision
from matching.review import decisions
from matching.review.queue import midnight


def automatic_on(day: date) -> QuerySet[Decision]:
    """Return the automatic decisions of a day in the server's time zone that still stand."""
    return Decision.objects.filter(
        automatic=True, decided_at__gte=midnight(day), decided_at__lt=midnight(day + timedelta(days=1))
    )


def undo_day(day: date, reviewer: AbstractBaseUser) -> int:
    """Undo the automatic decisions of a day. Their cases wait for people. Return how many were undone.

    What a person has decided since stays. Each batch is a transaction of its own.
    """
    return sum(decisions.undo_automatic(ids, reviewer) for ids in iter_pk_batches(automatic_on(day)))
