"""Answer whether a product is in the catalogue, from everything that its candidates show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from django.utils.translation import gettext as _

from matching.answers import records, stored
from matching.answers.choice import CONSIDERED, image_terms
from matching.answers.marks import Wrong
from matching.answers.same_images import same_images
from matching.evidence.comparison import compare
from matching.evidence.items import Direction
from matching.evidence.model import shipped_model
from matching.evidence.records import Record
from products.models import Product

MAX_SHOWN = 8  # items of evidence that are kept for a candidate
# A weight below this changes a probability by less than two points.
MIN_WEIGHT = 0.05


class Answer(StrEnum):
    """What the program says about a product."""

    SAME = "same"
    NEW = "new"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class WeighedEvidence:
    """An item of evidence with the log-odds that it adds to its candidate."""

    kind: str
    direction: str
    weight: float
    text: str

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "direction": self.direction, "weight": self.weight, "text": self.text}


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer about a question. ``probabilities`` and ``evidence`` are in the order of its candidates.

    Without a calibration of the version there are no probabilities, and a person should look.
    """

    answer: Answer
    not_in_catalogue: float | None
    probabilities: list[float | None]
    evidence: list[list[WeighedEvidence]]


def judge(
    asked: Record | None,
    candidates: Sequence[Product],
    scores: Sequence[float],
    model_name: str,
    wrong: Wrong | None = None,
) -> Judged:
    """Return the answer about a product with these candidates and their scores (0 to 100), best first.

    ``asked``: what is known about the product besides its images. Only the first CONSIDERED candidates can be right.
    ``wrong``: evidence that does not count.
    """
    calibrated = stored.load(model_name)
    if calibrated is None:
        return no_answer(candidates)
    considered = list(candidates[:CONSIDERED])
    rest = len(candidates) - len(considered)
    if not considered:
        answer = Answer.NEW if calibrated.new_from is not None else Answer.LOOK
        return Judged(answer, 1.0, [], [])
    similarities = np.array([scores[: len(considered)]]) / 100
    terms = image_terms(similarities)
    wrong = wrong or Wrong()
    facts, items = _facts(asked, considered, calibrated, wrong)
    if calibrated.same_image >= MIN_WEIGHT:
        for place in np.flatnonzero(same_images(similarities[0])):
            if "same_image" not in wrong.beside(considered[place].pk):
                facts[place] += calibrated.same_image
                items[place].append(_same_image(calibrated.same_image))
    probabilities = calibrated.model.probabilities(terms, np.array([facts]))[0]
    none = float(probabilities[-1])
    evidence = [
        _strongest([*_image_evidence(terms[0, place], place, scores, calibrated), *items[place]])
        for place in range(len(considered))
    ]
    best = float(probabilities[:-1].max())
    if calibrated.same_from is not None and best >= calibrated.same_from:
        answer = Answer.SAME
    elif calibrated.new_from is not None and none >= calibrated.new_from:
        answer = Answer.NEW
    else:
        answer = Answer.LOOK
    return Judged(
        answer, none, [*map(float, probabilities[:-1]), *[0.0] * rest], [*evidence, *([] for _candidate in range(rest))]
    )


def no_answer(candidates: Sequence[Product]) -> Judged:
    """Return that a person should look, without probabilities."""
    return Judged(Answer.LOOK, None, [None] * len(candidates), [[] for _candidate in candidates])


def _facts(
    asked: Record | None, candidates: Sequence[Product], calibrated: stored.Calibrated, wrong: Wrong
) -> tuple[list[float], list[list[WeighedEvidence]]]:
    """Return the log-odds of all evidence but the images for each candidate, and the items."""
    if asked is None or records.is_silent(asked):
        return [0.0] * len(candidates), [[] for _candidate in candidates]
    known = records.records_of(candidates)
    model = shipped_model()
    sums, items = [], []
    for candidate in candidates:
        record = known.get(candidate.pk)
        found = [] if record is None else compare(asked, record, calibrated.statistics)
        if found and (ignored := wrong.beside(candidate.pk)):
            found = [item for item in found if item.kind not in ignored]
        weighed = [
            WeighedEvidence(item.kind, str(item.direction), round(weight, 2), item.text)
            for item in found
            if abs(weight := model.weight(item)) >= MIN_WEIGHT
        ]
        sums.append(sum(map(model.weight, found)))
        items.append(weighed)
    return sums, items


def _same_image(weight: float) -> WeighedEvidence:
    return WeighedEvidence("same_image", _direction(weight), round(weight, 2), _("Both have the same image."))


def _image_evidence(
    terms: Any, place: int, scores: Sequence[float], calibrated: stored.Calibrated
) -> list[WeighedEvidence]:
    """Return what the images say. Its weights are against "none", so that all weights add to the log-odds."""
    closeness, lead, rank = terms * calibrated.model.weights
    alike = round(float(closeness) - calibrated.model.none, 2)
    ahead = round(float(lead + rank), 2)
    score_text = _("The images are alike by %(score).0f of 100.") % {"score": scores[place]}
    best_other = scores[0] if place else (scores[1] if len(scores) > 1 else 0.0)
    gap = scores[place] - best_other
    if gap >= 0:
        lead_text = _("It is ahead of the next candidate by %(gap).1f.") % {"gap": gap}
    else:
        lead_text = _("It is behind the best candidate by %(gap).1f.") % {"gap": -gap}
    items = [
        WeighedEvidence("image", _direction(alike), alike, score_text),
        WeighedEvidence("image_lead", _direction(ahead), ahead, lead_text),
    ]
    return [item for item in items if abs(item.weight) >= MIN_WEIGHT]


def _direction(weight: float) -> str:
    return str(Direction.FOR if weight > 0 else Direction.AGAINST)


def _strongest(items: Sequence[WeighedEvidence]) -> list[WeighedEvidence]:
    return sorted(items, key=lambda item: -abs(item.weight))[:MAX_SHOWN]
