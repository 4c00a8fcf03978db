"""Decide a case by its category's policy, or leave it to people."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from core import clock
from matching.models import ProductAnswer, ReviewLease
from matching.policy import audit
from matching.policy.evaluation import policy_for, thresholds
from matching.policy.models import Policy, PolicyCase
from matching.policy.promises import Proposal, Thresholds, propose
from matching.review import decisions
from matching.review.cases import Case, is_pending
from matching.review.decisions import Choice
from matching.review.leases import LEASE_DURATION
from products.models import Product


def consider(product: Product, model: str) -> bool:
    """Decide the case of a product whose candidates were just computed with this model, if its policy may.

    Return whether it was decided. Costs one short query where no policy is on. What a person has decided, judged or
    undone is left alone, and so is a case that a reviewer is looking at.
    """
    policy = policy_for(product.category)
    if policy is None or not policy.is_on or policy.paused_at is not None or product.is_historical:
        return False
    at = thresholds(policy, model)
    if at == Thresholds() or audit.pause_if_contradicted(policy):
        return False
    try:
        with transaction.atomic():
            return _decide(product.pk, policy, model, at)
    except Product.DoesNotExist:
        return False  # deleted meanwhile


def _decide(product_id: int, policy: Policy, model: str, at: Thresholds) -> bool:
    case = decisions.lock_case(product_id)
    proposal = _proposal(case, model, at)
    if proposal is None or not _is_free(case):
        return False
    candidate = case.matches[proposal.place].candidate_id if proposal.place is not None else None
    is_audit = audit.is_drawn(product_id, policy.audit_share)
    PolicyCase.objects.create(
        product_id=product_id, policy=policy, kind=proposal.kind, candidate=candidate, probability=proposal.probability,
        promise=policy.promise, is_audit=is_audit, handled_at=timezone.now(),
    )  # fmt: skip
    if is_audit:
        return False
    decisions.decide_automatically(case, Choice(proposal.kind, [] if candidate is None else [candidate]))
    return True


def _proposal(case: Case, model: str, at: Thresholds) -> Proposal | None:
    answer = ProductAnswer.objects.filter(product=case.product).first()
    if answer is None or any(match.model_name != model for match in case.matches):
        return None
    return propose([match.probability for match in case.matches], answer.not_in_catalogue, at)


def _is_free(case: Case) -> bool:
    """Return whether no person has decided, judged, undone or opened this case."""
    if case.product.is_historical or case.decision is not None or not all(map(is_pending, case.matches)):
        return False
    leases = ReviewLease.objects.filter(clock.within("taken_at", LEASE_DURATION), product=case.product)
    return not leases.exists() and not PolicyCase.objects.filter(product=case.product).exists()
