"""Say how likely each candidate is the product asked about, and how likely none of them is.

A conditional logit model (McFadden, "Conditional logit analysis of qualitative choice behavior", 1974): each candidate
has log-odds, "none" has some too, and the probabilities are their soft-max. So they add to one, and every term of a
candidate's log-odds is the exact weight of a fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

CONSIDERED = 10  # candidates of a question; the true product is rarely further down
# What the images say of a candidate: how close it is, its lead over the best other one, and its rank.
TERMS = ("closeness", "closeness_lead", "rank")
NEAREST = 0.005  # is added to each distance, so that equal images are not endlessly close
# How strongly weights are held at zero, in log loss of the mean question. Chosen on grocery's views: 0.003 to 0.03
# make no difference.
_PENALTY = 0.01
# How far decisions are expected to move what was learned from views, as standard deviations: of the logarithm of the
# scale, and of the log-odds of "none".
_SCALE_DEVIATION, _NONE_DEVIATION = 0.5, 1.5

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def image_terms(similarities: Doubles) -> Doubles:
    """Return the terms (q, c, 3) of candidates by their similarities (q, c), 0 to 1, best first.

    Closeness is the negative logarithm of the distance: from .98 to .99 similarity is as far as from .96 to .98. On
    grocery with legacy features, similarities as they are gave a calibration error of .140 on day zero, and this .100.
    The lead is negative for all but the best. Equal candidates have the same rank, since their order says nothing.
    Fewer than CONSIDERED candidates are allowed.
    """
    count = similarities.shape[1]
    closeness = -np.log(1 + NEAREST - np.minimum(similarities, 1.0))
    best = closeness[:, :1]
    runner_up = closeness[:, 1:2] if count > 1 else np.zeros_like(best)
    lead = closeness - best
    lead[:, :1] = best - runner_up
    better = (similarities[:, None, :] > similarities[:, :, None]).sum(axis=-1)
    rank = -np.log1p(better)
    return np.stack([closeness, lead, rank], axis=-1)


def similarities_of(terms: Doubles) -> Doubles:
    """Return the similarities (q, c) that gave these terms. Candidates that ``padded`` added have none above 0."""
    return np.asarray(1 + NEAREST - np.exp(-terms[:, :, 0]))


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions whose answers are known.

    ``terms`` (q, CONSIDERED, 3); ``facts`` (q, CONSIDERED): the log-odds of all other evidence; ``right`` (q,): the
    place of the true product, or CONSIDERED if it is not there; ``importance`` (q,); ``products`` (q,): the ids by
    which questions are held out together.
    """

    terms: Doubles
    facts: Doubles
    right: Ints
    importance: Doubles
    products: Ints

    def __len__(self) -> int:
        return len(self.right)

    def chosen(self, rows: npt.NDArray[np.bool_] | Ints) -> Questions:
        return Questions(
            self.terms[rows], self.facts[rows], self.right[rows], self.importance[rows], self.products[rows]
        )

    @classmethod
    def joined(cls, parts: Sequence[Questions]) -> Questions:
        names = ("terms", "facts", "right", "importance", "products")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, slots=True)
class ChoiceModel:
    """The weights of TERMS, and the log-odds of "none". ``weights`` (3,) are for terms as they are, not scaled."""

    weights: Doubles
    none: float

    def log_odds(self, terms: Doubles, facts: Doubles) -> Doubles:
        """Return the log-odds of each candidate against an unknown product that looks like nothing, (q, c)."""
        return np.asarray(terms @ self.weights + facts)

    def probabilities(self, terms: Doubles, facts: Doubles) -> Doubles:
        """Return the probability of each candidate, and last of none of them, (q, c + 1)."""
        log_odds = self.log_odds(terms, facts)
        return _softmax(np.concatenate([log_odds, np.full((len(log_odds), 1), self.none)], axis=1))

    def as_dict(self) -> dict[str, Any]:
        return {"weights": dict(zip(TERMS, map(float, self.weights), strict=True)), "none": self.none}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        return cls(np.array([float(stored["weights"][name]) for name in TERMS]), float(stored["none"]))


def fit(questions: Questions) -> ChoiceModel:
    """Return the model that fits the questions best. No weight is negative: similarity never speaks against.

    L-BFGS-B with bounds (Byrd, Lu, Nocedal and Zhu, 1995). Raises ValueError without two questions.
    """
    from scipy.optimize import minimize

    if len(questions) < 2:
        raise ValueError("a model of answers needs two questions or more")
    deviation = questions.terms[:, :5].reshape(-1, len(TERMS)).std(axis=0) + 1e-9
    terms = questions.terms / deviation
    total = questions.importance.sum()

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        model = ChoiceModel(parameters[:-1], float(parameters[-1]))
        probabilities = model.probabilities(terms, questions.facts)
        rows = np.arange(len(questions))
        errors = probabilities.copy()
        errors[rows, questions.right] -= 1
        errors *= (questions.importance / total)[:, None]
        value = -(questions.importance / total) @ np.log(np.maximum(probabilities[rows, questions.right], 1e-12))
        gradient = np.append(np.einsum("qc,qct->t", errors[:, :-1], terms), errors[:, -1].sum())
        gradient[:-1] += _PENALTY * parameters[:-1]
        return float(value + _PENALTY * (parameters[:-1] ** 2).sum() / 2), gradient

    bounds = [(0.0, None)] * len(TERMS) + [(None, None)]
    result = minimize(loss, np.zeros(len(TERMS) + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    return ChoiceModel(np.asarray(result.x[:-1]) / deviation, float(result.x[-1]))


def adjust(model: ChoiceModel, questions: Questions) -> ChoiceModel:
    """Move a model towards decided questions, as far as they carry: its scale, and how likely "none" is.

    Platt, "Probabilistic outputs for support vector machines", 1999, held at the given model by a normal prior. So
    the first decision moves it a little and the hundredth hardly.
    """
    from scipy.optimize import minimize

    if not len(questions):
        return model
    rows = np.arange(len(questions))

    def moved(parameters: Doubles) -> ChoiceModel:
        scale = float(np.exp(parameters[0]))
        return ChoiceModel(model.weights * scale, model.none * scale + float(parameters[1]))

    def loss(parameters: Doubles) -> float:
        probabilities = moved(parameters).probabilities(questions.terms, questions.facts)
        fit_loss = -questions.importance @ np.log(np.maximum(probabilities[rows, questions.right], 1e-9))
        prior = (parameters[0] / _SCALE_DEVIATION) ** 2 + (parameters[1] / _NONE_DEVIATION) ** 2
        return float(fit_loss + prior / 2)

    return moved(np.asarray(minimize(loss, np.zeros(2), method="Nelder-Mead").x))


def log_loss(model: ChoiceModel, questions: Questions) -> float:
    """Return the mean log loss of the right answers."""
    probabilities = model.probabilities(questions.terms, questions.facts)
    losses = -np.log(np.maximum(probabilities[np.arange(len(questions)), questions.right], 1e-12))
    return float(np.average(losses, weights=questions.importance))


def _softmax(log_odds: Doubles) -> Doubles:
    exponents = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def padded(terms: Doubles, facts: Doubles) -> tuple[Doubles, Doubles]:
    """Return terms (q, c, 3) and facts (q, c) with CONSIDERED candidates. Those that are added count as impossible."""
    missing = CONSIDERED - terms.shape[1]
    if missing <= 0:
        return terms[:, :CONSIDERED], facts[:, :CONSIDERED]
    return (
        np.pad(terms, ((0, 0), (0, missing), (0, 0))),
        np.pad(facts, ((0, 0), (0, missing)), constant_values=-1e6),
    )
