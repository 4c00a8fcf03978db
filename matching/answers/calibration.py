"""Learn probabilities from the catalogue and from decisions, and adopt them if they are better."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from django.utils import timezone
from threadpoolctl import threadpool_limits

from gpu.vectors import CLIP, HEAD, LEGACY, LEGACY_MODEL
from matching import service
from matching.answers import figures, records, same_images, stored
from matching.answers.catalogue_questions import FOLDS, SHARE_NEW, CalibrationError, ask_catalogue
from matching.answers.choice import CONSIDERED, ChoiceModel, Doubles, Questions, adjust, fit, log_loss
from matching.answers.decided_questions import ask_decisions
from matching.evidence.statistics import CatalogueStatistics
from matching.models import Calibration, Decision, Match
from products import model_versions
from products.model_versions import Version
from products.models import Feature, Product

RENEW_AFTER = timedelta(days=1)
SAME_PROMISE, NEW_PROMISE = 0.95, 0.90
# From so many decisions on, they alone say what can be promised. Before, the catalogue's own questions do.
MIN_DECISIONS_TO_PROMISE = 150
MIN_NEW_DECISIONS = 10  # fewer do not show which of two calibrations is better


@dataclass(frozen=True, slots=True)
class Learned:
    """New probabilities for a version and how they compare with those in use."""

    model_name: str
    model: ChoiceModel
    same_image: float
    statistics: CatalogueStatistics
    report: dict[str, Any]
    adopts: bool


def keep_calibrated() -> dict[str, Any] | None:
    """Calibrate the version that answers if it is due. Return the report, or None.

    It is due if the version never was, and daily after new decisions. Cheap if nothing is due.
    """
    version = model_versions.answering()
    _kind, model_name = _kind_and_name(version)
    newest = stored.usable(model_name).values_list("created_at", flat=True)
    last = newest.first()
    if last is not None:
        is_old = last < timezone.now() - RENEW_AFTER
        if not is_old or not Decision.objects.filter(decided_at__gt=last, automatic=False).exists():
            return None
    try:
        with threadpool_limits(limits=1):
            return calibrate(version)
    except CalibrationError:
        return None  # usual for a catalogue with one image a product; `manage.py calibrate` says why


def calibrate_version(version: str | None = None) -> dict[str, Any]:
    """Learn the probabilities of a version, or of the one that answers now. Returns the report.

    Raises CalibrationError if there is too little to learn from, and VersionError for a version that does not exist.
    """
    with threadpool_limits(limits=1):
        return calibrate(model_versions.answering() if version is None else model_versions.resolve(version))


def _kind_and_name(version: Version) -> tuple[str, str]:
    """Return the kind and name of a version's features. They are those that a search with it compares now."""
    if version.head is not None:
        return HEAD, version.name
    has_clip = Feature.objects.filter(kind=CLIP, model_name=version.name).exists()
    if version.is_forced or (has_clip and service.covers_catalogue(version.name)):
        return CLIP, version.name
    return LEGACY, LEGACY_MODEL


def calibrate(version: Version) -> dict[str, Any]:
    """Learn the probabilities of a version, store them, and adopt them if the held-out log loss is better.

    The first ones of a version are adopted. Returns the report. Raises CalibrationError if there is too little to learn
    from.
    """
    start = time.perf_counter()
    learned = learn(version)
    report: dict[str, Any] = learned.report | {
        "adopted": learned.adopts,
        "seconds": round(time.perf_counter() - start, 2),
    }
    Calibration.objects.create(
        model_name=learned.model_name,
        parameters=learned.model.as_dict()
        | {"same_image": learned.same_image}
        | {name: report[name] for name in ("same_from", "new_from")},
        statistics=stored.pack(learned.statistics),
        report=report,
        adopted=learned.adopts,
    )
    if learned.adopts:
        # The probabilities of open cases are those of before. Workers, or `match_products`, match them again.
        open_cases = Match.objects.filter(review_status=Match.Status.PENDING).order_by().values("product")
        Product.objects.filter(pk__in=open_cases, is_historical=False).update(unmatched_since=timezone.now())
    return report


def learn(version: Version) -> Learned:
    """Learn from the catalogue's own questions, then move towards the decisions. Raises CalibrationError."""
    kind, model_name = _kind_and_name(version)
    own = ask_catalogue(kind, model_name, version.head)
    same_image = same_images.learn(own)
    own = same_images.with_same_images(own, same_image)
    statistics = records.count_catalogue()
    decided = same_images.with_same_images(ask_decisions(version, statistics), same_image)
    day_zero = fit(own)
    model = adjust(day_zero, decided)
    in_use = stored.load(model_name)
    own_held_out = _held_out(own, fit)
    decided_held_out = _held_out(decided, lambda others: adjust(day_zero, others)) if len(decided) else None
    promised = _as_asked(own, own_held_out)
    if decided_held_out is not None and len(decided) >= MIN_DECISIONS_TO_PROMISE:
        promised = (decided, decided_held_out)
    report: dict[str, Any] = {
        "version": model_name,
        "questions": len(own),
        "decisions": len(decided),
        "log_loss": round(_loss(own, own_held_out), 4),
        "log_loss_of_decisions": None,
        "new_decisions": 0,
        "log_loss_of_new_decisions": None,
        "log_loss_in_use": None,
        **_figures(*promised),
    }
    adopts = in_use is None or not len(decided)
    if decided_held_out is not None:
        report["log_loss_of_decisions"] = round(_loss(decided, decided_held_out), 4)
    if in_use is not None and decided_held_out is not None:
        # The one in use has learned from the older decisions, so only newer ones can compare the two.
        newer = Decision.objects.filter(decided_at__gt=in_use.created_at, automatic=False)
        rows = np.isin(decided.products, list(newer.values_list("product_id", flat=True)))
        report["new_decisions"] = int(rows.sum())
        if report["new_decisions"] >= MIN_NEW_DECISIONS:
            report["log_loss_of_new_decisions"] = round(_loss(decided.chosen(rows), decided_held_out[rows]), 4)
            report["log_loss_in_use"] = round(log_loss(in_use.model, decided.chosen(rows)), 4)
            adopts = report["log_loss_of_new_decisions"] < report["log_loss_in_use"]
    return Learned(model_name, model, same_image, statistics, report, adopts)


def _held_out(questions: Questions, learn_from: Any) -> Doubles:
    """Return the probabilities (q, c + 1) of each question by a model that did not see its product."""
    fold = questions.products % FOLDS
    probabilities = np.zeros((len(questions), CONSIDERED + 1))
    for number in range(FOLDS):
        asked = fold == number
        others = questions.chosen(~asked)
        if asked.any() and len(others) > 1:
            model = learn_from(others)
            probabilities[asked] = model.probabilities(questions.terms[asked], questions.facts[asked])
    return probabilities


def _loss(questions: Questions, probabilities: Doubles) -> float:
    losses = -np.log(np.maximum(probabilities[np.arange(len(questions)), questions.right], 1e-12))
    return float(np.average(losses, weights=questions.importance))


def _as_asked(questions: Questions, probabilities: Doubles) -> tuple[Questions, Doubles]:
    """Return as many questions about unknown products beside the others as are expected to come."""
    known = np.flatnonzero(questions.right < CONSIDERED)
    unknown = np.flatnonzero(questions.right == CONSIDERED)
    count = round(len(known) * SHARE_NEW / (1 - SHARE_NEW))
    chosen = np.concatenate([known, np.random.default_rng(0).permutation(unknown)[:count]])
    return questions.chosen(chosen), probabilities[chosen]


def _figures(questions: Questions, probabilities: Doubles) -> dict[str, Any]:
    """Return how well held-out probabilities are calibrated, and from which on they carry a promise."""
    best = probabilities[:, :-1].max(axis=1)
    right: npt.NDArray[np.bool_] = probabilities[:, :-1].argmax(axis=1) == questions.right
    is_new = questions.right == CONSIDERED
    none = probabilities[:, -1]
    separation = figures.area_under_roc(none, is_new)
    return {
        "ece": round(figures.expected_calibration_error(best, right), 4),
        "brier": round(figures.brier_score(best, right), 4),
        "auroc_not_in_catalogue": None if separation is None else round(separation, 4),
        "same_from": figures.promised_from(SAME_PROMISE, best, right),
        "new_from": figures.promised_from(NEW_PROMISE, none, is_new),
    }
