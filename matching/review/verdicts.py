"""Give, change and undo verdicts on single matches. The decision on their case follows from them."""

from __future__ import annotations

from collections.abc import Iterator

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from core.database.batches import iter_pk_batches
from core.history.recording import acting_as, current_source, record_changes
from matching.models import Match
from matching.review import decisions
from matching.review.cases import POSITIVE
from matching.review.decisions import MAX_NOTE_LENGTH, ConflictError, StaleError, columns, follow_verdicts

__all__ = ["MAX_NOTE_LENGTH", "ConflictError", "StaleError"]


def set_verdict(
    match_id: int,
    status: str | None,
    reviewer: AbstractBaseUser,
    note: str | None = None,
    *,
    version: str | None = None,
    override: bool = True,
    kept: list[str] | None = None,
) -> Match:
    """Set the verdict on a match; ``pending`` undoes it. None keeps the verdict or the note.

    ``kept`` gets sentences about consequences of the earlier decision that stay, see ``Case.kept``.
    An equal verdict stays with its reviewer and time. ``version``: the version of the match that the reviewer saw.
    Raises Match.DoesNotExist, ValueError for an unknown status, and ValidationError for a note that is too long.
    Raises StaleError if the match has another version. Without a version and without ``override``, raises
    ConflictError instead of changing the verdict of another reviewer.
    """
    if status is not None:
        _check_status(status)
    if note is not None and len(note) > MAX_NOTE_LENGTH:
        text = _("A note has at most %(limit)d characters.") % {"limit": MAX_NOTE_LENGTH}
        raise ValidationError({"note": ValidationError(text, code="max_length")})
    now = timezone.now()
    with transaction.atomic():
        case = decisions.lock_case(Match.objects.values_list("product_id", flat=True).get(pk=match_id))
        match = next((match for match in case.matches if match.pk == match_id), None)
        if match is None:
            raise Match.DoesNotExist(_("This match no longer exists."))
        if version is not None and version != match.version:
            raise StaleError("stale", _conflict_text(match), _details(match))
        status = match.review_status if status is None else status
        changes_verdict = match.review_status != status
        if not changes_verdict and note in (None, match.note):
            return match
        is_of_another = match.reviewer_id not in (None, reviewer.pk)
        if status in POSITIVE and case.decision is not None:  # it would change the decision too
            is_of_another |= case.decision.reviewer_id not in (None, reviewer.pk)
        if changes_verdict and is_of_another and version is None and not override:
            text = _conflict_text(match) if match.reviewer is not None else decisions.conflict_text(case)
            raise ConflictError("already_decided", text, _details(match))
        stored = Match.objects.get(pk=match_id)  # the case keeps the verdict from before
        if changes_verdict:
            for name, value in columns(status, reviewer, now).items():
                setattr(stored, name, value)
        if note is not None:
            stored.note = note
        stored._history_date = now  # type: ignore[attr-defined]  # of django-simple-history
        with acting_as(current_source(), reviewer):
            stored.save(update_fields=["review_status", "reviewer", "reviewed_at", "note", "updated_at"])
        if changes_verdict:
            stayed = follow_verdicts([case], {match_id: status}, reviewer, now)
            if kept is not None:
                kept += stayed
    return stored


def set_verdicts(
    matches: QuerySet[Match], status: str, reviewer: AbstractBaseUser, kept: list[str] | None = None
) -> int:
    """Set the same verdict on all these matches. Return how many had another one.

    ``kept``: as for ``set_verdict``.
    Each batch is a transaction of its own. Raises ValueError for an unknown status.
    """
    return sum(map(len, _change_in_batches(matches, status, reviewer, [] if kept is None else kept)))


def changeable_by(matches: QuerySet[Match], reviewer: AbstractBaseUser) -> QuerySet[Match]:
    """Return those of these matches that have no verdict of another reviewer."""
    return matches.filter(Q(reviewer__isnull=True) | Q(reviewer_id=reviewer.pk))


def _change_in_batches(
    matches: QuerySet[Match], status: str, reviewer: AbstractBaseUser, kept: list[str]
) -> Iterator[list[int]]:
    """Change the verdicts and yield the ids of each batch that was changed."""
    _check_status(status)
    for ids in iter_pk_batches(matches):
        now = timezone.now()
        with transaction.atomic():
            products = set(Match.objects.filter(pk__in=ids).values_list("product_id", flat=True))
            cases = decisions.lock_cases(products)
            # Select again: another reviewer may have decided before the lock.
            selected = matches.filter(pk__in=ids).exclude(review_status=status).order_by("pk")
            changed_ids = list(selected.values_list("pk", flat=True))
            if changed_ids:
                changed = Match.objects.filter(pk__in=changed_ids)
                changed.update(**columns(status, reviewer, now))
                record_changes(changed, reviewer, now)
                touched = set(changed_ids)
                affected = [case for case in cases if any(match.pk in touched for match in case.matches)]
                kept += follow_verdicts(affected, dict.fromkeys(changed_ids, status), reviewer, now)
        yield changed_ids


def _check_status(status: str) -> None:
    if status not in Match.Status.values:
        raise ValueError(f"A verdict is one of {', '.join(Match.Status.values)}, not {status!r}.")


def _details(match: Match) -> dict[str, object]:
    return {
        "version": match.version,
        "decided": {
            "review_status": match.review_status,
            "by": match.reviewer.get_username() if match.reviewer else None,
            "at": match.reviewed_at,
            "note": match.note,
        },
    }


def _conflict_text(match: Match) -> str:
    if match.reviewer is None or match.reviewed_at is None:
        return _("The match has changed since you saw it. Look at it again.")
    values = {
        "name": match.reviewer.get_username(),
        "what": match.get_review_status_display(),
        "when": timezone.localtime(match.reviewed_at).strftime("%Y-%m-%d %H:%M"),
    }
    return _("%(name)s has decided this match: %(what)s (%(when)s).") % values
