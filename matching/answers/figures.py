"""Measure probabilities against what was right: calibration, separation, and how much can be promised."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BINS = 15
CONFIDENCE = 1.96  # standard errors of a 95 % interval


def expected_calibration_error(probabilities: Doubles, right: Bools) -> float:
    """Return the mean gap between promise and truth over 15 bins of equally many answers (Naeini et al., 2015)."""
    order = np.argsort(probabilities, kind="stable")
    bins = [rows for rows in np.array_split(order, BINS) if len(rows)]
    return float(sum(len(rows) * abs(probabilities[rows].mean() - right[rows].mean()) for rows in bins) / len(order))


def brier_score(probabilities: Doubles, right: Bools) -> float:
    """Return the mean squared difference between promise and truth (Brier, 1950)."""
    return float(((probabilities - right) ** 2).mean())


def area_under_roc(scores: Doubles, positive: Bools) -> float | None:
    """Return how often a positive scores above a negative; ties count half. None if one of the two is missing."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def wilson_interval(hits: float, total: float, deviations: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of a share (Wilson, 1927), by default at 95 %; (0, 1) without any trial."""
    if total == 0:
        return 0.0, 1.0
    share, square = hits / total, deviations**2 / total
    centre = share + square / 2
    margin = deviations * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return max(0.0, (centre - margin) / (1 + square)), min(1.0, (centre + margin) / (1 + square))


def coverage_at(precision: float, probabilities: Doubles, right: Bools, repeats: int = 1) -> tuple[float, float]:
    """Return the largest share of answers, surest first, whose precision is at least this, and its lower bound.

    The lower bound is that of the precision by Wilson. ``repeats``: how often each question was asked. (0, 0) if no
    share reaches it.
    """
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum(right[order])
    # Answers of equal probability belong together: no threshold parts them.
    ends = np.flatnonzero(np.append(np.diff(probabilities[order]) != 0, True))
    reached = ends[hits[ends] >= precision * (ends + 1)]
    if not len(reached):
        return 0.0, 0.0
    end = int(reached[-1])
    return (end + 1) / len(order), wilson_interval(hits[end] / repeats, (end + 1) / repeats)[0]


def promised_from(precision: float, probabilities: Doubles, right: Bools) -> float | None:
    """Return the lowest probability, not below ``precision``, from which answers keep that promise.

    That is where the precision of all answers above it is at least the promise with 95 % confidence (Wilson's lower
    bound). None if the answers do not carry it.
    """
    order = np.argsort(-probabilities, kind="stable")
    sorted_probabilities = probabilities[order]
    hits = np.cumsum(right[order])
    ends = np.flatnonzero(np.append(np.diff(sorted_probabilities) != 0, True))
    kept = [
        float(sorted_probabilities[end])
        for end in ends
        if sorted_probabilities[end] >= precision and wilson_interval(int(hits[end]), int(end) + 1)[0] >= precision
    ]
    return min(kept, default=None)
