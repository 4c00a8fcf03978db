"""What decisions propose: values that a product lacks and the same product has. A user accepts them with one click."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from core.history.recording import acting_as, current_source
from matching.models import Decision, Match
from matching.review.consequences import FILL_CATALOGUE, FILL_NEW, PROPOSE, Fact, give, missing, sides
from matching.review.decisions import lock_case
from products import preferences
from products.models import Product

MAX_PROPOSALS = 50  # decisions whose proposals a product's page shows


@dataclass(frozen=True, slots=True)
class Proposal:
    """Facts that a decision proposes for a product. ``case_id``: the product of the case."""

    case_id: int
    sources: list[Product]
    facts: list[Fact]


def proposals(product: Product) -> list[Proposal]:
    """Return what decisions "the same" propose for a product, by the settings of this moment."""
    found = []
    decision = Decision.objects.filter(product=product, kind=Decision.Kind.SAME).first()
    if decision is not None and preferences.value(FILL_NEW) == PROPOSE:
        _new, others = sides(decision)
        found.append(Proposal(product.pk, others, missing(product, others)))
    if preferences.value(FILL_CATALOGUE) == PROPOSE:
        confirmed = product.matched_by.filter(
            review_status=Match.Status.CONFIRMED, product__decision__kind=Decision.Kind.SAME
        )
        matches = confirmed.select_related("product").order_by("-pk")[:MAX_PROPOSALS]
        found += [Proposal(one.product_id, [one.product], missing(product, [one.product])) for one in matches]
    return [proposal for proposal in found if proposal.facts]


def accept(product_id: int, case_id: int, keys: Collection[str], user: AbstractBaseUser) -> int:
    """Give a product those proposed facts of a case whose keys are named. Return how many it got.

    Undoing the decision takes them back. Facts that are no longer proposed are left out. Raises Product.DoesNotExist.
    """
    with transaction.atomic(), acting_as(current_source(), user):
        decision = lock_case(case_id).decision
        product = Product.objects.get(pk=product_id)
        proposed = {proposal.case_id: proposal.facts for proposal in proposals(product)}.get(case_id, [])
        effects = give(product, [fact for fact in proposed if fact.key in keys])
        if decision is not None and effects:
            Decision.objects.filter(pk=decision.pk).update(effects=[*decision.effects, *effects])
        return len(effects)
