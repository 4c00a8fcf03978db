"""Ask again what people have decided: each decided product with the candidates that it has today."""

from __future__ import annotations

import numpy as np
from django.db.models import Exists, OuterRef, QuerySet

from gpu.heads import Head
from matching import service
from matching.answers import records
from matching.answers.choice import CONSIDERED, Questions, image_terms, padded
from matching.evidence.comparison import compare
from matching.evidence.model import shipped_model
from matching.evidence.statistics import CatalogueStatistics
from matching.index import SearchVectorError
from matching.models import Match
from products.models import Product
from products.queue.query_features import FeaturesPendingError

MAX_QUESTIONS = 2_000  # the newest decisions; more would only take time


def ask_decisions(head: Head | None, statistics: CatalogueStatistics) -> Questions:
    """Return one question for each decided product, searched with the head or with the encoder alone.

    A product is decided if a candidate is confirmed, or if all are rejected: then it is new. One whose confirmed
    product is not among the candidates, or that cannot be searched, is left out.
    """
    asked = [_ask(product, head, statistics) for product in _decided()[:MAX_QUESTIONS]]
    found = [question for question in asked if question is not None]
    return Questions.joined(found) if found else _no_questions()


def _decided() -> QuerySet[Product]:
    of_product = Match.objects.filter(product=OuterRef("pk")).order_by()
    confirmed = Exists(of_product.filter(review_status=Match.Status.CONFIRMED))
    rejected = Exists(of_product.filter(review_status=Match.Status.REJECTED))
    pending = Exists(of_product.filter(review_status=Match.Status.PENDING))
    new = Product.objects.filter(is_historical=False).annotate(is_confirmed=confirmed, is_open=pending)
    return new.filter(confirmed | (rejected & ~pending)).order_by("-pk")


def _ask(product: Product, head: Head | None, statistics: CatalogueStatistics) -> Questions | None:
    confirmed = set(
        product.matches.filter(review_status=Match.Status.CONFIRMED).order_by().values_list("candidate_id", flat=True)
    )
    try:
        found = service.scored_candidates(product, CONSIDERED, head)
    except (FeaturesPendingError, SearchVectorError):
        return None
    places = [place for place, (candidate, _score) in enumerate(found) if candidate.pk in confirmed]
    if not found or (confirmed and not places):
        return None
    record = records.record_of(product)
    known = records.records_of([candidate for candidate, _score in found])
    model = shipped_model()
    facts = [
        0.0 if records.is_silent(record) or candidate.pk not in known
        else sum(map(model.weight, compare(record, known[candidate.pk], statistics)))
        for candidate, _score in found
    ]  # fmt: skip
    terms, others = padded(
        image_terms(np.array([[score for _candidate, score in found]]) / 100), np.array([facts], np.float64)
    )
    right = places[0] if confirmed else CONSIDERED
    return Questions(terms, others, np.array([right]), np.ones(1), np.array([product.pk]))


def _no_questions() -> Questions:
    return Questions(
        np.zeros((0, CONSIDERED, 3)), np.zeros((0, CONSIDERED)), np.zeros(0, np.int64), np.zeros(0),
        np.zeros(0, np.int64),
    )  # fmt: skip
