"""Weigh evidence: a logistic model whose terms add in log-odds, each with the sign that its evidence means.

The weight of a kind is a monotone, piecewise linear function of the value, zero for the value zero. So people can read
it, and evidence for two products being the same never counts against it. Fitting is logistic regression on the slopes,
held at or above zero (L-BFGS-B with bounds; Byrd, Lu, Nocedal and Zhu 1995), with a penalty for leaving the slopes of
a prior model. Without it, plain regression gives wrong signs to kinds that go together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from matching.evidence.items import Evidence

WEIGHTS = Path(__file__).with_name("weights.json")
# The weight of a kind is given at seven values from -1 to 1.
_SEGMENTS = 3
_KNOTS = 2 * _SEGMENTS + 1
_MAX_ITERATIONS = 500

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EvidenceModel:
    """The weight of each kind of evidence, in natural log-odds.

    ``base``: the log-odds of two products about which nothing is known. ``weights``: for each kind, its weight at the
    values -1, -2/3, -1/3, 0, 1/3, 2/3 and 1.
    """

    base: float
    weights: Mapping[str, tuple[float, ...]]

    def weight(self, evidence: Evidence) -> float:
        """Return the log-odds that an item adds: above zero for, below against. What is unknown adds zero."""
        knots = self.weights.get(evidence.kind)
        if not evidence.value or knots is None:
            return 0.0
        place = (evidence.value + 1) * _SEGMENTS
        segment = min(int(place), _KNOTS - 2)
        share = place - segment
        return knots[segment] * (1 - share) + knots[segment + 1] * share

    def log_odds(self, evidence: Sequence[Evidence]) -> float:
        return self.base + sum(map(self.weight, evidence))

    def probability(self, evidence: Sequence[Evidence]) -> float:
        """Return how likely two products are the same by their evidence."""
        return probability_of(self.log_odds(evidence))

    def as_dict(self) -> dict[str, Any]:
        return {
            "base": round(self.base, 4),
            "weights": {kind: [round(knot, 3) for knot in knots] for kind, knots in sorted(self.weights.items())},
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return the model of a stored dict. Raises ValueError if a weight has the wrong sign or number."""
        weights = {str(kind): tuple(map(float, knots)) for kind, knots in stored["weights"].items()}
        for kind, knots in weights.items():
            if len(knots) != _KNOTS or knots[_SEGMENTS] != 0 or list(knots) != sorted(knots):
                raise ValueError(f"The weights of “{kind}” must be {_KNOTS} rising numbers with 0 in the middle.")
        return cls(base=float(stored["base"]), weights=weights)


def probability_of(log_odds: float) -> float:
    """Return the probability of log-odds of any size."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    return 1 - 1 / (1 + math.exp(log_odds)) if log_odds > -700 else 0.0


@cache
def shipped_model() -> EvidenceModel:
    """Return the model that the program ships. ``weights.json`` says what it was learned from."""
    return EvidenceModel.from_dict(json.loads(WEIGHTS.read_text("utf-8")))


def fit(
    evidence: Sequence[Sequence[Evidence]],
    labels: Sequence[bool],
    *,
    prior: EvidenceModel,
    strength: float = 1.0,
    groups: Sequence[int] | None = None,
) -> EvidenceModel:
    """Return the model that fits labelled pairs best without leaving ``prior`` too far.

    ``strength``: how much a squared change of a slope costs, in log loss of one pair. Kinds that the prior lacks start
    at zero, and those that no pair has stay as they are. ``groups``: numbers from 0 of collections that share their
    weights, but differ in how many of their pairs are the same. The base is then the mean of theirs. Raises ValueError
    if all labels are equal.
    """
    from scipy.optimize import minimize

    targets = np.asarray(labels, dtype=np.float64)
    if not 0 < targets.sum() < len(targets):
        raise ValueError("The model needs pairs that are the same product and pairs that are not.")
    kinds = sorted(prior.weights.keys() | {item.kind for items in evidence for item in items})
    terms = _terms(evidence, kinds)
    group = np.asarray([0] * len(targets) if groups is None else groups)
    bases = int(group.max()) + 1
    prior_slopes = [_slopes(prior.weights.get(kind, (0.0,) * _KNOTS)) for kind in kinds]
    start = np.concatenate([[prior.base] * bases, *prior_slopes])

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        log_odds = parameters[group] + terms @ parameters[bases:]
        errors = 1 / (1 + np.exp(-log_odds)) - targets
        moved = parameters - start
        moved[:bases] = 0.0
        value = np.logaddexp(0, log_odds).sum() - targets @ log_odds + strength * (moved @ moved)
        gradient = np.concatenate([np.bincount(group, errors, bases), errors @ terms])
        return float(value), gradient + 2 * strength * moved

    bounds = [(None, None)] * bases + [(0.0, None)] * (len(start) - bases)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _MAX_ITERATIONS})
    slopes = np.asarray(result.x[bases:]).reshape(len(kinds), _KNOTS - 1)
    weights = {kind: _knots(row) for kind, row in zip(kinds, slopes, strict=True)}
    return EvidenceModel(base=float(result.x[:bases].mean()), weights=weights)


def _terms(evidence: Sequence[Sequence[Evidence]], kinds: Sequence[str]) -> Doubles:
    """Return how far each pair's value lies along each segment of each kind, (pairs, kinds × segments)."""
    column = {kind: number for number, kind in enumerate(kinds)}
    values = np.zeros((len(evidence), len(kinds)))
    for row, items in enumerate(evidence):
        for item in items:
            if item.value:
                values[row, column[item.kind]] = item.value
    starts = np.arange(-_SEGMENTS, _SEGMENTS, dtype=np.float64)
    along = np.clip(values[:, :, None] * _SEGMENTS - starts, 0.0, 1.0) - (starts < 0)
    return np.asarray(along.reshape(len(evidence), -1))


def _slopes(knots: Sequence[float]) -> Doubles:
    return np.diff(np.asarray(knots, dtype=np.float64))


def _knots(slopes: Doubles) -> tuple[float, ...]:
    knots = np.concatenate([[0.0], np.cumsum(slopes)])
    return tuple(float(knot) for knot in knots - knots[_SEGMENTS])
