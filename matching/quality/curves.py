"""How good the answers were: calibration, precision by coverage, recall by week, by category, and confusions.

Pure functions of past decisions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from matching.answers.figures import expected_calibration_error, wilson_interval
from matching.policy.past import Past

BINS = 10
MAX_POINTS = 60  # of a curve; more would not be seen
WEEKS = 12
MAX_CATEGORIES, MAX_CONFUSIONS = 20, 12


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar probability. ``low`` and ``high``: the interval of the share that was right."""

    promised: float
    right: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Group:
    """Decisions of one week or category.

    ``same``: on products that the catalogue had. ``first`` and ``listed``: those of them whose true product came first,
    or was among the candidates.
    """

    name: str
    count: int
    same: int
    first: int
    listed: int
    promised: float
    right: float

    @property
    def recall(self) -> float | None:
        return self.first / self.same if self.same else None

    @property
    def recall_listed(self) -> float | None:
        return self.listed / self.same if self.same else None


def reliability(decisions: Sequence[Past]) -> list[Bin]:
    """Return bins of equally many answers, from unlikely to likely ones."""
    told = sorted(
        ((one.probability, one.is_same) for one in decisions if one.is_same is not None), key=lambda pair: pair[0]
    )
    found = []
    for rows in np.array_split(np.arange(len(told)), min(BINS, len(told)) or 1):
        if len(rows):
            right = sum(bool(told[row][1]) for row in rows)
            low, high = wilson_interval(right, len(rows))
            promised = sum(told[row][0] for row in rows) / len(rows)
            found.append(Bin(promised, right / len(rows), low, high, len(rows)))
    return found


def calibration_error(decisions: Sequence[Past]) -> float | None:
    """Return the mean gap between promise and truth. None without decisions."""
    told = [(one.probability, one.is_same) for one in decisions if one.is_same is not None]
    if not told:
        return None
    return expected_calibration_error(
        np.array([p for p, _right in told]), np.array([right for _p, right in told], bool)
    )


def precision_by_coverage(decisions: Sequence[Past]) -> list[tuple[float, float, float]]:
    """Return (coverage, precision, lower bound) of the surest answers, for growing coverage."""
    told = sorted(
        ((one.probability, bool(one.is_same)) for one in decisions if one.is_same is not None),
        key=lambda pair: -pair[0],
    )
    if not told:
        return []
    hits = np.cumsum([right for _probability, right in told])
    places = sorted({round(place) for place in np.linspace(1, len(told), min(MAX_POINTS, len(told)))})
    return [
        (place / len(told), float(hits[place - 1]) / place, wilson_interval(int(hits[place - 1]), place)[0])
        for place in places
    ]


def by_week(decisions: Sequence[Past], now: datetime) -> list[tuple[int, Group]]:
    """Return the decisions of each of the last weeks, by how many weeks ago. Weeks without any are left out.

    Times in the future come from before the clock was set back, and count as now.
    """
    weeks: dict[int, list[Past]] = defaultdict(list)
    for one in decisions:
        age = max(timedelta(0), now - one.decided_at) // timedelta(weeks=1)
        if age < WEEKS:
            weeks[age].append(one)
    return [(age, _group(str(age), made)) for age, made in sorted(weeks.items(), reverse=True)]


def by_category(decisions: Sequence[Past]) -> list[Group]:
    """Return the categories with the most decisions."""
    categories: dict[str, list[Past]] = defaultdict(list)
    for one in decisions:
        categories[one.category].append(one)
    groups = [_group(name, made) for name, made in categories.items()]
    return sorted(groups, key=lambda group: (-group.count, group.name))[:MAX_CATEGORIES]


def confusions(decisions: Sequence[Past]) -> list[Past]:
    """Return the decisions in which the first candidate was likely and wrong, surest first."""
    wrong = [one for one in decisions if one.is_same is False]
    return sorted(wrong, key=lambda one: (-one.probability, one.product))[:MAX_CONFUSIONS]


def _group(name: str, made: Sequence[Past]) -> Group:
    told = [one for one in made if one.is_same is not None]
    same = [one for one in made if one.kind == "same"]
    return Group(
        name,
        len(made),
        len(same),
        sum(one.rank == 1 for one in same),
        sum(one.rank is not None for one in same),
        sum(one.probability for one in told) / len(told) if told else 0.0,
        sum(bool(one.is_same) for one in told) / len(told) if told else 0.0,
    )
