"""Give, change and undo verdicts on matches, and record who decided what, and when."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import chain
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from core.database.batches import iter_pk_batches
from core.history.recording import acting_as, current_source, record_changes
from matching.models import Match
from products.models import Product

MAX_NOTE_LENGTH = 10_000  # characters


def set_verdict(match_id: int, status: str | None, reviewer: AbstractBaseUser, note: str | None = None) -> Match:
    """Set the verdict on a match; ``pending`` undoes it. None keeps the verdict or the note.

    An equal verdict stays with its reviewer and time.
    Raises Match.DoesNotExist, ValueError for an unknown status, and ValidationError for a note that is too long.
    """
    if status is not None:
        _check_status(status)
    if note is not None and len(note) > MAX_NOTE_LENGTH:
        text = _("A note has at most %(limit)d characters.") % {"limit": MAX_NOTE_LENGTH}
        raise ValidationError({"note": ValidationError(text, code="max_length")})
    with transaction.atomic():
        match = Match.objects.select_for_update().get(pk=match_id)
        status = match.review_status if status is None else status
        if match.review_status == status and note in (None, match.note):
            return match
        if match.review_status != status:
            for name, value in _columns(status, reviewer, timezone.now()).items():
                setattr(match, name, value)
        if note is not None:
            match.note = note
        with acting_as(current_source(), reviewer):
            match.save(update_fields=["review_status", "reviewer", "reviewed_at", "note", "updated_at"])
    return match


def set_verdicts(matches: QuerySet[Match], status: str, reviewer: AbstractBaseUser) -> int:
    """Set the same verdict on all these matches. Return how many had another one.

    Each batch is a transaction of its own. Raises ValueError for an unknown status.
    """
    return sum(map(len, _change_in_batches(matches, status, reviewer)))


def reject_pending(product: Product, reviewer: AbstractBaseUser) -> list[int]:
    """Reject all pending matches of a product. Return their ids."""
    pending = product.matches.filter(review_status=Match.Status.PENDING)
    return list(chain.from_iterable(_change_in_batches(pending, Match.Status.REJECTED, reviewer)))


def undo_verdicts(match_ids: Collection[int], reviewer: AbstractBaseUser) -> None:
    """Undo this reviewer's own verdicts on these matches."""
    own = Match.objects.filter(pk__in=match_ids, reviewer_id=reviewer.pk)
    set_verdicts(own, Match.Status.PENDING, reviewer)


def _change_in_batches(matches: QuerySet[Match], status: str, reviewer: AbstractBaseUser) -> Iterator[list[int]]:
    """Change the verdicts and yield the ids of each batch that was changed."""
    _check_status(status)
    for ids in iter_pk_batches(matches):
        with transaction.atomic():
            list(Match.objects.select_for_update().filter(pk__in=ids).order_by("pk").values_list("pk"))
            # Select again: another reviewer may have decided before the lock.
            selected = matches.filter(pk__in=ids).exclude(review_status=status).order_by("pk")
            changed_ids = list(selected.values_list("pk", flat=True))
            if changed_ids:
                changed = Match.objects.filter(pk__in=changed_ids)
                changed.update(**_columns(status, reviewer, timezone.now()))
                record_changes(changed, reviewer)
        yield changed_ids


def _check_status(status: str) -> None:
    if status not in Match.Status.values:
        raise ValueError(f"A verdict is one of {', '.join(Match.Status.values)}, not {status!r}.")


def _columns(status: str, reviewer: AbstractBaseUser, at: datetime) -> dict[str, Any]:
    """Return the columns of a verdict. A pending match has no reviewer and no time."""
    is_decided = status != Match.Status.PENDING
    return {
        "review_status": Match.Status(status),
        "reviewer_id": reviewer.pk if is_decided else None,
        "reviewed_at": at if is_decided else None,
        "updated_at": at,
    }
