"""Ask again what people have decided: each decided product with the candidates that it has today."""

from __future__ import annotations

import numpy as np

from gpu.encoders.registry import ClipUnavailableError
from matching import service
from matching.answers import records
from matching.answers.choice import CONSIDERED, Questions, image_terms, padded
from matching.answers.marks import wrong_evidence
from matching.evidence.comparison import compare
from matching.evidence.model import shipped_model
from matching.evidence.statistics import CatalogueStatistics
from matching.index import SearchVectorError
from matching.models import Decision
from products.model_versions import Version
from products.queue.query_features import FeaturesPendingError

MAX_QUESTIONS = 2_000  # the newest decisions; more would only take time


def ask_decisions(version: Version, statistics: CatalogueStatistics) -> Questions:
    """Return one question for each decided product, searched with this version.

    Only decisions "the same" and "new" of people tell. A product whose confirmed product is not among the candidates,
    or that cannot be searched, is left out.
    """
    by_people = Decision.objects.filter(automatic=False)
    telling = by_people.filter(kind__in=[Decision.Kind.SAME, Decision.Kind.NEW], product__is_historical=False)
    newest = telling.select_related("product").order_by("-decided_at", "-pk")[:MAX_QUESTIONS]
    asked = [_ask(decision, version, statistics) for decision in newest]
    found = [question for question in asked if question is not None]
    return Questions.joined(found) if found else _no_questions()


def _ask(decision: Decision, version: Version, statistics: CatalogueStatistics) -> Questions | None:
    product, confirmed = decision.product, set(decision.candidates)
    try:
        found = service.scored_candidates(product, CONSIDERED, version)
    except (FeaturesPendingError, SearchVectorError, ClipUnavailableError):
        return None
    places = [place for place, (candidate, _score) in enumerate(found) if candidate.pk in confirmed]
    if not found or (confirmed and not places):
        return None
    record = records.record_of(product)
    known = records.records_of([candidate for candidate, _score in found])
    model, wrong = shipped_model(), wrong_evidence(product.pk)
    facts = [
        0.0 if records.is_silent(record) or candidate.pk not in known
        else sum(
            model.weight(item) for item in compare(record, known[candidate.pk], statistics)
            if item.kind not in wrong.beside(candidate.pk)
        )
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
