"""What people decide about matches: one at a time or many at once, each decision kept with who made it and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from core.batches import iter_pk_batches
from core.history.recording import acting_as, current_source, record_changes
from matching.models import Match


def review(match_id: int, status: str, reviewer: AbstractBaseUser, note: str | None = None) -> Match:
    """Give, change or take back (``pending``) the verdict on a match; ``note`` None leaves the note as it is.

    A verdict that it has already stays as it is, with who gave it and when.
    Raises Match.DoesNotExist, and ValueError for an unknown status.
    """
    _check(status)
    with transaction.atomic():
        match = Match.objects.select_for_update().get(pk=match_id)
        if match.review_status == status and note in (None, match.note):
            return match
        if match.review_status != status:
            for name, value in _verdict(status, reviewer, timezone.now()).items():
                setattr(match, name, value)
        if note is not None:
            match.note = note
        with acting_as(current_source(), reviewer):
            match.save(update_fields=["review_status", "reviewer", "reviewed_at", "note", "updated_at"])
    return match


def review_all(matches: QuerySet[Match], status: str, reviewer: AbstractBaseUser) -> int:
    """Give all these matches the same verdict; answers how many had another one before.

    Each step is a transaction of its own, and one that is done stays done. Raises ValueError for an unknown status.
    """
    _check(status)
    count = 0
    for ids in iter_pk_batches(matches):
        with transaction.atomic():
            rows = Match.objects.filter(pk__in=ids).exclude(review_status=status)
            others = list(rows.select_for_update().values_list("pk", flat=True))
            changed = Match.objects.filter(pk__in=others)
            changed.update(**_verdict(status, reviewer, timezone.now()))
            record_changes(changed, reviewer)
        count += len(others)
    return count


def _check(status: str) -> None:
    if status not in Match.Status.values:
        raise ValueError(f"A verdict is one of {', '.join(Match.Status.values)}, not {status!r}.")


def _verdict(status: str, reviewer: AbstractBaseUser, at: datetime) -> dict[str, Any]:
    """The columns of a verdict; what waits has no reviewer and no time."""
    decided = status != Match.Status.PENDING
    return {
        "review_status": Match.Status(status),
        "reviewer_id": reviewer.pk if decided else None,
        "reviewed_at": at if decided else None,
        "updated_at": at,
    }
