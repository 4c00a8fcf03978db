"""Make and undo decisions on cases. A decision settles all candidates of its case in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from core.database.batches import iter_batches
from core.history.recording import (
    ChangeSource,
    acting_as,
    current_source,
    record_changes,
    record_creations,
    record_deletions,
)
from matching.models import Decision, Match, ProductAnswer
from matching.review import agreement
from matching.review.cases import POSITIVE, Case, decision_document, decision_in_words, is_pending
from matching.review.consequences import Consequences
from products.models import Product

MAX_NOTE_LENGTH = 10_000  # characters
MAX_WORDS_LENGTH = 200  # characters of ``differs`` and ``reason``

Kind, Status = Decision.Kind, Match.Status


class ConflictError(Exception):
    """Another reviewer was first, or the case changed. ``details``: who decided what, for programs."""

    def __init__(self, code: str, message: str, details: dict[str, Any]) -> None:
        self.code, self.details = code, details
        self.status = 409  # for HTTP; 412 if the version came in a header
        super().__init__(message)


class StaleError(ConflictError):
    """The case is not what it was when the reviewer saw it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a reviewer says about a case. ``candidates``: ids of catalogue products, for SAME and VARIANT."""

    kind: str
    candidates: Sequence[int] = ()
    differs: str = ""
    reason: str = ""
    note: str = ""


def decide(
    product_id: int,
    choice: Choice,
    reviewer: AbstractBaseUser,
    *,
    version: str | None = None,
    override: bool = False,
) -> Case:
    """Decide a case: give every candidate its verdict. Return the case as it is then.

    ``version``: the version of the case that the reviewer saw. Without it, the decision of another reviewer is only
    replaced with ``override``. Sending one's own decision again changes nothing.
    Raises Product.DoesNotExist, ValidationError, StaleError if the case has another version, and ConflictError if
    another reviewer decided first.
    """
    now = timezone.now()
    with transaction.atomic():
        case = lock_case(product_id)
        check_choice(choice, case)
        before = case.decision
        is_repeated = before is not None and before.reviewer_id == reviewer.pk and _is_same(before, choice)
        if is_repeated and not any(map(is_pending, case.matches)):
            return case
        check_unseen(case, reviewer, version, override=override)
        kept = _settle(case, choice, reviewer, now)
    return replace(current_case(product_id), kept=tuple(kept))


def decide_automatically(case: Case, choice: Choice) -> None:
    """Decide a case that is locked, has no decision and no verdict, as the policy's own decision."""
    with acting_as(ChangeSource.POLICY):
        _settle(case, choice, None, timezone.now())


def _settle(case: Case, choice: Choice, reviewer: AbstractBaseUser | None, now: datetime) -> list[str]:
    """Give every candidate of a locked case its verdict. Without a reviewer the decision is automatic.

    Returns what stays of the consequences of an earlier decision, see ``Case.kept``.
    """
    before = case.decision
    version, shown = case.version, _shown(case.matches)
    chosen = set(choice.candidates)
    verdict = {Kind.SAME: Status.CONFIRMED, Kind.VARIANT: Status.VARIANT}.get(Kind(choice.kind))
    other = Status.UNSURE if choice.kind == Kind.UNSURE else Status.REJECTED
    judged_alone = _judged_alone(case)
    targets: dict[int, str] = {
        match.pk: (verdict if match.candidate_id in chosen and verdict else other)
        for match in case.matches
        if match.candidate_id in chosen or match.pk not in judged_alone
    }
    if before is not None and before.automatic:
        # Each match becomes the reviewer's own, also with an equal verdict, and the index takes it for a view.
        _give_verdicts(case.matches, dict.fromkeys(before.settled, Status.PENDING), reviewer, now)
        for match in case.matches:
            match.review_status = Status.PENDING if match.pk in before.settled else match.review_status
    decision = before or Decision(product=case.product)
    consequences = Consequences()
    with acting_as(current_source(), reviewer):
        consequences.take_back([before] if before is not None else [])
    decision.kind, decision.candidates = Kind(choice.kind), sorted(chosen)
    decision.differs, decision.reason, decision.note = choice.differs, choice.reason, choice.note
    decision.reviewer_id, decision.decided_at = reviewer.pk if reviewer is not None else None, now
    decision.automatic = reviewer is None
    decision.version, decision.shown, decision.settled = version, shown, sorted(targets)
    decision.not_in_catalogue = _not_in_catalogue([case]).get(case.product.pk)
    decision._history_date = now  # type: ignore[attr-defined]  # of django-simple-history
    with acting_as(current_source(), reviewer):
        consequences.apply(decision)
        decision.save()
        consequences.finish()
    if reviewer is not None:
        agreement.note_first(decision)
    _give_verdicts(case.matches, targets, reviewer, now)
    return consequences.kept


def undo(product_id: int, reviewer: AbstractBaseUser, *, version: str | None = None, override: bool = False) -> Case:
    """Undo the decision on a case: the candidates that it settled wait again. Return the case as it is then.

    What the decision did to products is taken back too. ``Case.kept`` says what stays, because a user changed it since.
    Raises Product.DoesNotExist, Decision.DoesNotExist, and what ``decide`` raises for an unseen change.
    """
    now = timezone.now()
    with transaction.atomic():
        case = lock_case(product_id)
        if case.decision is None:
            raise Decision.DoesNotExist(_("This case has no decision."))
        check_unseen(case, reviewer, version, override=override)
        consequences = Consequences()
        with acting_as(current_source(), reviewer):
            consequences.take_back([case.decision])
        _remove([case.decision], reviewer, now)
        agreement.forget_first(product_id)
        _give_verdicts(case.matches, dict.fromkeys(case.decision.settled, Status.PENDING), reviewer, now)
    return replace(current_case(product_id), kept=tuple(consequences.kept))


def undo_automatic(decision_ids: Collection[int], reviewer: AbstractBaseUser) -> int:
    """Undo those of these decisions that are still automatic, in one transaction. Return how many.

    What they did to products is taken back, except what a user has changed since.
    """
    now = timezone.now()
    with transaction.atomic():
        products = Decision.objects.filter(pk__in=decision_ids, automatic=True).values_list("product_id", flat=True)
        cases = [case for case in lock_cases(list(products)) if case.decision is not None and case.decision.automatic]
        made = [case.decision for case in cases if case.decision is not None]
        with acting_as(current_source(), reviewer):
            Consequences().take_back(made)
        _remove(made, reviewer, now)
        settled = {pk for decision in made for pk in decision.settled}
        matches = [match for case in cases for match in case.matches]
        _give_verdicts(matches, dict.fromkeys(settled, Status.PENDING), reviewer, now)
    return len(made)


def lock_case(product_id: int) -> Case:
    """Lock a case until the end of the transaction and return it. Raises Product.DoesNotExist."""
    found = lock_cases([product_id])
    if not found:
        raise Product.DoesNotExist(_("There is no product %(id)s.") % {"id": product_id})
    return found[0]


def lock_cases(product_ids: Collection[int]) -> list[Case]:
    """Lock the cases of these products until the end of the transaction. Return those that exist.

    Products and candidates are locked before matches, each by key, as in ``save_matches``. A decision can change both.
    """
    candidates = Match.objects.filter(product__in=product_ids).order_by().values_list("candidate", flat=True)
    locked = Product.objects.select_for_update(no_key=True).only("pk", "sku", "name", "is_historical").order_by("pk")
    wanted = set(product_ids)
    products: dict[int, Product] = {}
    for ids in iter_batches(sorted(wanted.union(candidates))):
        products |= {product.pk: product for product in locked.filter(pk__in=ids) if product.pk in wanted}
    matches: dict[int, list[Match]] = defaultdict(list)
    for match in Match.objects.select_for_update().filter(product__in=list(products)).order_by("pk"):
        matches[match.product_id].append(match)
    made = Decision.objects.filter(product__in=list(products)).select_related("reviewer")
    decisions = {decision.product_id: decision for decision in made}
    return [
        Case(product, sorted(matches[pk], key=lambda match: (-match.similarity_score, match.pk)), decisions.get(pk))
        for pk, product in products.items()
    ]


def current_case(product_id: int) -> Case:
    """Return a case as it is now, without a lock. Raises Product.DoesNotExist."""
    product = Product.objects.select_related("decision__reviewer").get(pk=product_id)
    matches = list(product.matches.select_related("candidate", "reviewer").order_by("-similarity_score", "pk"))
    return Case(product, matches, getattr(product, "decision", None))


def check_unseen(case: Case, reviewer: AbstractBaseUser, version: str | None, *, override: bool) -> None:
    """Raise ConflictError if the reviewer would change what another one decided without having seen it.

    A reviewer who saw the case right before the policy decided it goes first: the automatic decision is replaced.
    """
    if version is not None:
        is_automatic = case.decision is not None and case.decision.automatic
        if version != case.version and not (is_automatic and case.decision and version == case.decision.version):
            raise StaleError("stale", conflict_text(case), details(case))
    elif not override and case.decision is not None and case.decision.reviewer_id not in (None, reviewer.pk):
        raise ConflictError("already_decided", conflict_text(case), details(case))


def details(case: Case) -> dict[str, Any]:
    """Return who decided what, and the version of the case, for a program that was refused."""
    return {"product_id": case.product.pk, "version": case.version, "decided": decision_document(case.decision)}


def follow_verdicts(
    cases: Iterable[Case], changed: dict[int, str], reviewer: AbstractBaseUser, at: datetime
) -> list[str]:
    """Make the decisions of these cases agree with the verdicts that were just given on single matches.

    ``cases``: locked, as they were before. ``changed``: the new verdicts by match id, already stored.
    A confirmed candidate settles those that wait. Rejecting the last candidate decides that the product is new. Taking
    back what a decision rests on undoes the decision. Returns what stays of its consequences, see ``Case.kept``.
    """
    consequences = Consequences()
    decided: list[Decision] = []  # another way than before, or for the first time
    outdated: list[Decision] = []
    made: list[Decision] = []
    gone: list[Decision] = []
    matches: list[Match] = []
    targets: dict[int, str] = {}
    cases = list(cases)
    unlikely = _not_in_catalogue(cases)
    for case in cases:
        old = case.decision
        version, shown = case.version, _shown(case.matches)
        is_answered = any(match.review_status in POSITIVE for match in case.matches)
        for match in case.matches:
            match.review_status = changed.get(match.pk, match.review_status)
        settled = set(old.settled) if old is not None else set()
        settled -= {match.pk for match in case.matches if changed.get(match.pk) == Status.REJECTED}
        positive = [match for match in case.matches if match.review_status in POSITIVE]
        waiting = [match for match in case.matches if is_pending(match)]
        matches += case.matches
        if not positive and is_answered and old is not None:
            # What the decision rested on was taken back, so what it settled waits again.
            reopened = [
                match for match in case.matches
                if match.pk in settled and match.pk not in changed and not is_pending(match)
            ]  # fmt: skip
            targets |= {match.pk: Status.PENDING for match in reopened}
            waiting += reopened
        if positive:
            unjudged = [match for match in case.matches if _waits(match) and match.pk not in changed]
            targets |= {match.pk: Status.REJECTED for match in unjudged}
            settled |= {match.pk for match in case.matches if match in positive or match.pk in targets}
        elif waiting:
            gone += [old] if old is not None else []
            continue
        elif case.matches:
            settled = {match.pk for match in case.matches}
        else:
            continue
        kind, candidates = _derived(case.matches)
        decision = old or Decision(product=case.product)
        is_equal = old is not None and (old.kind, old.candidates) == (kind, candidates)
        if old is not None and is_equal and settled == set(old.settled):
            continue
        if not is_equal:
            decided.append(decision)
            outdated += [old] if old is not None else []
        decision.kind, decision.candidates = kind, candidates
        decision.reviewer_id, decision.decided_at = reviewer.pk, at
        decision.version, decision.shown, decision.settled = version, shown, sorted(settled)
        decision.automatic, decision.not_in_catalogue = False, unlikely.get(case.product.pk)
        made.append(decision)
    with acting_as(current_source(), reviewer):
        consequences.take_back([*outdated, *gone])
        for decision in decided:
            consequences.apply(decision)
        consequences.finish()
    _save(made, reviewer, at)
    _remove(gone, reviewer, at)
    _give_verdicts(matches, targets, reviewer, at)
    return consequences.kept


def columns(status: str, reviewer: AbstractBaseUser | None, at: datetime) -> dict[str, Any]:
    """Return the columns of a verdict. A pending match has no reviewer and no time, an automatic one no reviewer."""
    is_decided = status != Status.PENDING
    return {
        "review_status": Status(status),
        "reviewer_id": reviewer.pk if is_decided and reviewer is not None else None,
        "reviewed_at": at if is_decided else None,
        "updated_at": at,
    }


def check_choice(choice: Choice, case: Case) -> None:
    """Raise ValidationError if this cannot be said about the case."""
    if choice.kind not in Kind.values:
        raise ValidationError({"decision": _("A decision is one of %(kinds)s.") % {"kinds": ", ".join(Kind.values)}})
    if len(choice.note) > MAX_NOTE_LENGTH:
        text = _("A note has at most %(limit)d characters.") % {"limit": MAX_NOTE_LENGTH}
        raise ValidationError({"note": ValidationError(text, code="max_length")})
    for name in ("differs", "reason"):
        if len(getattr(choice, name)) > MAX_WORDS_LENGTH:
            text = _("This has at most %(limit)d characters.") % {"limit": MAX_WORDS_LENGTH}
            raise ValidationError({name: ValidationError(text, code="max_length")})
    if choice.kind in (Kind.SAME, Kind.VARIANT):
        if not choice.candidates:
            raise ValidationError({"candidates": _("Name at least one candidate, or decide that it is new.")})
    elif choice.candidates:
        raise ValidationError({"candidates": _("Only the decisions same and variant name candidates.")})
    unknown = sorted(set(choice.candidates) - {match.candidate_id for match in case.matches})
    if unknown:
        ids = ", ".join(map(str, unknown[:10]))
        raise ValidationError({"candidates": _("Not a candidate of this case: %(ids)s.") % {"ids": ids}})


def _is_same(decision: Decision, choice: Choice) -> bool:
    stored = (decision.kind, decision.candidates, decision.differs, decision.reason, decision.note)
    return stored == (choice.kind, sorted(set(choice.candidates)), choice.differs, choice.reason, choice.note)


def conflict_text(case: Case) -> str:
    """Return who decided what and when, for the reviewer whose decision was refused."""
    decision = case.decision
    if decision is None:
        return _("The case has changed since you saw it. Look at it again.")
    values = {
        "name": decided_by(decision),
        "what": decision_in_words(decision),
        "when": date_format(timezone.localtime(decision.decided_at), "DATETIME_FORMAT"),
    }
    return _("%(name)s has decided this case: %(what)s (%(when)s).") % values


def decided_by(decision: Decision) -> str:
    """Return who made a decision, as the subject of a sentence."""
    if decision.automatic:
        return _("The policy")
    return decision.reviewer.get_username() if decision.reviewer else _("A deleted user")


def _judged_alone(case: Case) -> set[int]:
    """Return the ids of the matches that were rejected one by one, before any decision."""
    settled = set(case.decision.settled) if case.decision is not None else set()
    return {match.pk for match in case.matches if match.review_status == Status.REJECTED and match.pk not in settled}


def _waits(match: Match) -> bool:
    return match.review_status in (Status.PENDING, Status.UNSURE)


def _derived(matches: Sequence[Match]) -> tuple[str, list[int]]:
    """Return the decision that the verdicts of a case amount to."""
    for verdict, kind in ((Status.CONFIRMED, Kind.SAME), (Status.VARIANT, Kind.VARIANT)):
        chosen = sorted(match.candidate_id for match in matches if match.review_status == verdict)
        if chosen:
            return kind, chosen
    return (Kind.UNSURE if any(match.review_status == Status.UNSURE for match in matches) else Kind.NEW), []


def _shown(matches: Sequence[Match]) -> list[dict[str, Any]]:
    return [
        {
            "candidate": match.candidate_id,
            "score": round(match.similarity_score, 2),
            "rank": match.rank,
            "model": match.model_name,
            "probability": match.probability,
        }
        for match in matches
    ]


def _not_in_catalogue(cases: Sequence[Case]) -> dict[int, float | None]:
    """Return the probability that each of these new products is not in the catalogue, by product."""
    answers = ProductAnswer.objects.filter(product__in=[case.product.pk for case in cases])
    return dict(answers.values_list("product_id", "not_in_catalogue"))


def _save(decisions: Sequence[Decision], reviewer: AbstractBaseUser, at: datetime) -> None:
    """Save new and changed decisions with their history, in the same few statements for any number."""
    new = [decision for decision in decisions if decision.pk is None]
    changed = [decision for decision in decisions if decision.pk is not None]
    if new:
        products = [decision.product_id for decision in new]
        Decision.objects.bulk_create(new)
        record_creations(Decision.objects.filter(product__in=products), reviewer, at)
    if changed:
        names = [
            "kind", "candidates", "reviewer", "decided_at", "automatic", "version", "shown", "not_in_catalogue",
            "settled", "effects", "images_are_views",
        ]  # fmt: skip
        Decision.objects.bulk_update(changed, names, batch_size=100)
        record_changes(Decision.objects.filter(pk__in=[decision.pk for decision in changed]), reviewer, at)


def _remove(decisions: Sequence[Decision], reviewer: AbstractBaseUser, at: datetime) -> None:
    if decisions:
        rows = Decision.objects.filter(pk__in=[decision.pk for decision in decisions])
        with acting_as(current_source(), reviewer):
            record_deletions(rows, at)
        rows._raw_delete(rows.db)


def _give_verdicts(
    matches: Sequence[Match], targets: dict[int, str], reviewer: AbstractBaseUser | None, at: datetime
) -> None:
    """Store these verdicts by match id, with their history, in one statement for each verdict."""
    current = {match.pk: match.review_status for match in matches}
    by_status: dict[str, list[int]] = defaultdict(list)
    for pk, status in targets.items():
        if pk in current and current[pk] != status:
            by_status[status].append(pk)
    for status, ids in by_status.items():
        rows = Match.objects.filter(pk__in=ids)
        rows.update(**columns(status, reviewer, at))
        record_changes(rows, reviewer, at)
