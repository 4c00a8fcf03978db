"""Say what a policy may decide, from past decisions, and what it would decide today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db.models import Exists, F, FloatField, Max, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _

from core import clock
from matching.models import Decision, Match
from matching.policy import past
from matching.policy.models import Policy, PolicyCase
from matching.policy.past import Past
from matching.policy.promises import Thresholds, carried_from, interval, needed
from products.models import Product

EVALUATE_AFTER = timedelta(minutes=10)  # past decisions are counted again so often
MAX_LISTED = 12  # mistakes that a page shows


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two things that a policy can decide. ``why_not`` is a sentence if past decisions do not carry it.

    ``mistakes``: past decisions, surest first, that it would have got wrong, of ``decided``. ``today``: open cases that
    it would decide now.
    """

    decided_from: float | None
    why_not: str
    decided: int
    mistakes: list[Past]
    today: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a policy would do. ``open``: its open cases. ``ignored``: names of reviewers who confirm everything."""

    same: Side
    new: Side
    open: int
    decisions: int
    ignored: list[str]


def policy_for(category: str) -> Policy | None:
    """Return the policy of a category: its own one, else the one of all others. None if there is neither."""
    found = {policy.category: policy for policy in Policy.objects.filter(category__in={category, ""})}
    return found.get(category) or found.get("")


def thresholds(policy: Policy, model: str) -> Thresholds:
    """Return from which probabilities a policy decides about this model. Counts past decisions now and then."""
    is_fresh = policy.evaluated_at is not None and not clock.is_over(policy.evaluated_at, EVALUATE_AFTER)
    if not is_fresh or policy.model_name != model:
        evaluate(policy, model)
    return Thresholds(policy.same_from if policy.confirms else None, policy.new_from if policy.calls_new else None)


def evaluate(policy: Policy, model: str) -> None:
    """Count past decisions, and store from which probabilities on they carry the promise."""
    decisions, _careless = _decisions_of(policy, model)
    values = {
        "same_from": _carried(policy, [(one.probability, one.is_same) for one in decisions]),
        "new_from": _carried(policy, [(one.not_in_catalogue, one.is_new) for one in decisions]),
        "model_name": model,
        "evaluated_at": timezone.now(),
    }
    for name, value in values.items():
        setattr(policy, name, value)
    if policy.pk is not None:
        Policy.objects.filter(pk=policy.pk).update(**values)


def preview(policy: Policy, model: str) -> Preview:
    """Return what a policy with these settings would do today and would have done. Stores nothing."""
    decisions, careless = _decisions_of(policy, model)
    names = get_user_model().objects.filter(pk__in=careless).values_list("username", flat=True)
    waiting = open_cases(policy)
    return Preview(
        _side(policy, [(one.probability, one.is_same, one) for one in decisions], waiting, "_likely", "_none"),
        _side(policy, [(one.not_in_catalogue, one.is_new, one) for one in decisions], waiting, "_none", "_likely"),
        waiting.count(),
        len(decisions),
        sorted(names),
    )


def open_cases(policy: Policy) -> QuerySet[Product]:
    """Return the new products of a policy's categories that wait for their first decision, with probabilities."""
    open_ = Product.objects.filter(is_historical=False, answer__not_in_catalogue__isnull=False)
    undecided = open_.exclude(Exists(Decision.objects.filter(product=OuterRef("pk"))))
    undecided = undecided.exclude(Exists(PolicyCase.objects.filter(product=OuterRef("pk"))))
    judged = Match.objects.filter(product=OuterRef("pk")).exclude(review_status=Match.Status.PENDING)
    best = Match.objects.filter(product=OuterRef("pk")).order_by().values("product").annotate(best=Max("probability"))
    annotated = _of_policy(undecided.exclude(Exists(judged)), policy).alias(
        _likely=Coalesce(Subquery(best.values("best")), Value(0.0), output_field=FloatField()),
        _none=Coalesce("answer__not_in_catalogue", Value(0.0), output_field=FloatField()),
    )
    found: QuerySet[Product] = annotated
    return found


def _of_policy(products: QuerySet[Product], policy: Policy) -> QuerySet[Product]:
    if policy.category:
        return products.filter(category=policy.category)
    return products.exclude(category__in=Policy.objects.exclude(category="").values("category"))


def _decisions_of(policy: Policy, model: str) -> tuple[list[Past], set[int]]:
    decisions = Decision.objects.filter(product__category=policy.category)
    if not policy.category:
        decisions = Decision.objects.exclude(
            product__category__in=Policy.objects.exclude(category="").values("category")
        )
    return past.telling(past.read(decisions), model)


def _carried(policy: Policy, answers: Sequence[tuple[float, bool | None]]) -> float | None:
    told = [(probability, right) for probability, right in answers if right is not None]
    return carried_from(policy.promise, policy.confidence, *_columns(told))


def _columns(told: Sequence[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [probability for probability, _right in told], [right for _probability, right in told]


def _side(
    policy: Policy,
    answers: Sequence[tuple[float, bool | None, Past]],
    waiting: QuerySet[Product],
    field: str,
    other: str,
) -> Side:
    told = sorted(((p, right, one) for p, right, one in answers if right is not None), key=lambda row: -row[0])
    decided_from = _carried(policy, [(p, right) for p, right, _one in told])
    if decided_from is None:
        return Side(None, _why_not(policy, [(p, right) for p, right, _one in told]), 0, [], 0)
    above = [(right, one) for p, right, one in told if p >= decided_from]
    today = waiting.filter(**{f"{field}__gte": decided_from, f"{field}__gt": F(other)}).count()
    return Side(decided_from, "", len(above), [one for right, one in above if not right], today)


def _why_not(policy: Policy, told: Sequence[tuple[float, bool]]) -> str:
    """Return why past decisions do not carry the promise."""
    sure = [right for probability, right in told if probability >= policy.promise]
    minimum = needed(policy.promise, policy.confidence)
    facts = {
        "promise": f"{100 * policy.promise:g}\u00a0%", "confidence": f"{100 * policy.confidence:g}\u00a0%",
        "needed": minimum, "count": len(sure), "right": sum(sure),
    }  # fmt: skip
    if not told:
        return _("People have not decided any case with probabilities of the version in use yet.")
    if all(sure):
        return (
            _(
                "To promise %(promise)s with %(confidence)s confidence, people must have decided %(needed)d cases "
                "without a mistake that were at least this likely. They have decided %(count)d."
            )
            % facts
        )
    low = interval(sum(sure), len(sure), policy.confidence)[0]
    return _(
        "Of %(count)d decided cases that were at least %(promise)s likely, %(right)d were right. That carries "
        "%(low)s with %(confidence)s confidence, not %(promise)s."
    ) % (facts | {"low": f"{100 * low:.1f}\u00a0%"})
