"""Cases with probabilities, decisions on them, and a calibration that policies can rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.utils import timezone

from gpu.vectors import LEGACY, LEGACY_MODEL
from matching.answers import stored
from matching.answers.choice import ChoiceModel
from matching.evidence.statistics import CatalogueStatistics
from matching.models import Calibration, Decision, Match, ProductAnswer
from matching.review import decisions
from matching.review.decisions import Choice
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.vectors import add_product, legacy_features


def calibrate_by_hand(slope: float = 10.0, none: float = 48.0, same_from: float | None = None) -> Calibration:
    """Adopt probabilities by which, unless said otherwise, only equal images are likely the same product: 99.3 %."""
    model = ChoiceModel(np.array([slope, 0.0, 0.0]), none)
    return Calibration.objects.create(
        model_name=LEGACY_MODEL, parameters=model.as_dict() | {"same_from": same_from, "new_from": None},
        statistics=stored.pack(CatalogueStatistics.of([])), adopted=True,
    )  # fmt: skip


def make_open_case(probability: float, none: float, category: str = "", **fields: Any) -> tuple[Product, Product]:
    """Create a case with one candidate of this probability. Return its product and the candidate."""
    candidate = Product.objects.create(is_historical=True, category=category, name="candidate")
    product = Product.objects.create(category=category, name="arrival", **fields)
    Match.objects.create(
        product=product, candidate=candidate, similarity_score=80, feature_type=LEGACY, model_name=LEGACY_MODEL,
        rank=1, probability=probability,
    )  # fmt: skip
    ProductAnswer.objects.create(product=product, answer="look", not_in_catalogue=none, answered_at=timezone.now())
    return product, candidate


def decide(product: Product, candidate: Product | None = None, reviewer: User | None = None) -> None:
    """Decide a case as a reviewer: the same as the candidate, or new."""
    choice = Choice("same", [candidate.pk]) if candidate is not None else Choice("new")
    decisions.decide(product.pk, choice, reviewer or user_in("reviewer"))


def past_decisions(count: int, right: int | None = None, probability: float = 0.99, category: str = "") -> None:
    """Store decisions on cases with a likely candidate, the first ``right`` of which confirm it, and some unsure ones.

    The unsure ones show that the reviewer looks: half of them are confirmed. Written as decisions are stored, because
    hundreds through the API would take seconds.
    """
    answers = [(probability, right is None or number < right) for number in range(count)]
    answers += [(0.5, bool(number % 2)) for number in range(20)]
    candidate = Product.objects.create(is_historical=True, category=category, name="candidate")
    products = Product.objects.bulk_create(Product(category=category, name="arrival") for _answer in answers)
    shown = {"candidate": candidate.pk, "score": 80.0, "rank": 1, "model": LEGACY_MODEL}
    Decision.objects.bulk_create(
        Decision(
            product=product, kind="same" if is_same else "new", candidates=[candidate.pk] if is_same else [],
            reviewer=user_in("reviewer"), decided_at=timezone.now(), shown=[shown | {"probability": chance}],
            not_in_catalogue=1 - chance,
        )
        for product, (chance, is_same) in zip(products, answers, strict=True)
    )  # fmt: skip


def searchable(count: int, category: str = "") -> list[Product]:
    """Create catalogue products that look different, and as many new ones that look like them. Return the new ones."""
    looks = legacy_features(count, seed=7)
    for look in looks:
        add_product(look, category=category)
    return [add_product(look, historical=False, category=category) for look in looks]
