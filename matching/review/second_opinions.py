"""Second answers: the next case for a second reviewer, the answer, and what a manager makes of a disagreement."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from matching.models import Decision, SecondOpinion
from matching.review import decisions
from matching.review.decisions import Choice

State = SecondOpinion.State


class OpinionError(Exception):
    """A second answer or a settlement came too late, or from the wrong user."""


def waiting_for(reviewer: AbstractBaseUser) -> QuerySet[SecondOpinion]:
    """Return the cases that this reviewer may answer, oldest first: those that another one decided."""
    waiting = SecondOpinion.objects.filter(state=State.WAITING).exclude(first_reviewer_id=reviewer.pk)
    return waiting.order_by("pk")


def answer(opinion_id: int, kind: str, candidates: list[int], reviewer: AbstractBaseUser) -> SecondOpinion:
    """Store the second answer. It decides nothing. Raises OpinionError, and ValidationError for an invalid answer."""
    with transaction.atomic():
        opinion = SecondOpinion.objects.select_for_update().filter(pk=opinion_id, state=State.WAITING).first()
        if opinion is None:
            raise OpinionError(_("This case has its second answer already, or its decision was undone."))
        if opinion.first_reviewer_id == reviewer.pk:
            raise OpinionError(_("You gave the first answer of this case. Another reviewer gives the second."))
        decisions.check_choice(Choice(kind, candidates), decisions.current_case(opinion.product_id))
        opinion.second = {"kind": kind, "candidates": sorted(set(candidates))}
        opinion.second_reviewer_id, opinion.answered_at = reviewer.pk, timezone.now()
        opinion.state = State.AGREED if opinion.second == opinion.first else State.DISAGREED
        opinion.save()
    return opinion


def disagreements() -> QuerySet[SecondOpinion]:
    """Return the cases whose two answers differ and that no manager has settled, newest first."""
    found = SecondOpinion.objects.filter(state=State.DISAGREED).order_by("-pk")
    return found.select_related("product", "first_reviewer", "second_reviewer").prefetch_related("product__images")


def settle(opinion_id: int, *, takes_second: bool, manager: AbstractBaseUser) -> None:
    """End a disagreement: keep the first answer, or make the second one the decision.

    Raises OpinionError if another manager was first, and what ``decide`` raises.
    """
    with transaction.atomic():
        opinion = SecondOpinion.objects.select_for_update().filter(pk=opinion_id, state=State.DISAGREED).first()
        if opinion is None:
            raise OpinionError(_("This disagreement was settled already."))
        if takes_second and opinion.second is not None:
            choice = Choice(opinion.second["kind"], opinion.second["candidates"])
            decisions.decide(opinion.product_id, choice, manager, override=True)
        elif not Decision.objects.filter(product=opinion.product_id).exists():
            raise ValidationError(_("The first answer was undone. Decide the case on its own page."))
        SecondOpinion.objects.filter(pk=opinion.pk).update(state=State.SETTLED)
