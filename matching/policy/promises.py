"""From which probability on past decisions carry a promise. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from matching.answers.figures import wilson_interval

MIN_MISTAKES = 2  # in an audit that contradicts a promise


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The lowest probabilities at which a policy decides. None: never."""

    same_from: float | None = None
    new_from: float | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a policy would decide about a case. ``place``: of the candidate, if it is the same product."""

    kind: Literal["same", "new"]
    probability: float
    place: int | None = None


def propose(probabilities: Sequence[float | None], not_in_catalogue: float | None, at: Thresholds) -> Proposal | None:
    """Return what to decide about a case with these candidates, or None if a person should."""
    best = max(range(len(probabilities)), key=lambda place: probabilities[place] or 0.0, default=None)
    likely = (probabilities[best] or 0.0) if best is not None else 0.0
    none = not_in_catalogue or 0.0
    if at.same_from is not None and likely >= at.same_from and likely > none:
        return Proposal("same", likely, best)
    if at.new_from is not None and not_in_catalogue is not None and none >= at.new_from and none > likely:
        return Proposal("new", none)
    return None


def interval(right: int, total: int, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of a share; (0, 1) without any trial."""
    return wilson_interval(right, total, deviations(confidence))


def deviations(confidence: float) -> float:
    """Return how many standard errors a two-sided interval with this confidence takes on each side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def needed(promise: float, confidence: float) -> int:
    """Return how many decisions without a mistake carry a promise."""
    return math.ceil(deviations(confidence) ** 2 * promise / (1 - promise) - 1e-9)


def carried_from(
    promise: float, confidence: float, probabilities: Sequence[float], right: Sequence[bool]
) -> float | None:
    """Return the lowest probability from which decisions carry a promise, or None if they do not.

    Wilson's lower bound of all surer decisions must reach it. From the surest decisions on, the bound is followed to
    the first probability at which it fails again, so that a lucky stretch further down promises nothing. No probability
    below the promise counts: each decision is as sure as all together.
    """
    chances, hits = np.asarray(probabilities, np.float64), np.asarray(right, np.bool_)
    order = np.argsort(-chances, kind="stable")
    chances, counted = chances[order], np.cumsum(hits[order])
    found = None
    # Decisions of equal probability belong together: no threshold parts them.
    for end in np.flatnonzero(np.append(np.diff(chances) != 0, True)) if len(chances) else []:
        if chances[end] < promise:
            break
        if interval(int(counted[end]), int(end) + 1, confidence)[0] >= promise:
            found = float(chances[end])
        elif found is not None:
            break
    return found


def is_contradicted(promise: float, confidence: float, right: int, total: int) -> bool:
    """Return whether a check speaks against a promise: its whole interval lies below.

    One mistake alone is no contradiction: among the first eight cases it would happen to every seventh policy that
    keeps a promise of 98 %.
    """
    return total - right >= MIN_MISTAKES and interval(right, total, confidence)[1] < promise
