"""Show how the weights of evidence add up to a probability, as bars that each begin where the last one ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from matching.answers.wording import percent

WIDTH = 100.0  # units of the drawing
_EDGE = 1e-4  # a probability nearer to 0 or 1 would make all other bars invisible


@dataclass(frozen=True, slots=True)
class Bar:
    """One step. ``weight``: in log-odds, "" for the first and the last. ``x`` and ``width`` in units of the drawing."""

    text: str
    kind: str
    direction: str
    weight: str
    x: float
    width: float
    is_total: bool = False


def waterfall(evidence: Sequence[Mapping[str, Any]], probability: float | None) -> list[Bar]:
    """Return the steps from even odds to the probability of a candidate. [] without a probability.

    The weights of the evidence add to the log-odds against "not in the catalogue". What is left are the other
    candidates, which share the probability, and evidence too small to be listed.
    """
    if probability is None:
        return []
    total = _log_odds(probability)
    steps = [(str(item["text"]), str(item["kind"]), float(item["weight"])) for item in evidence]
    rest = total - sum(weight for _text, _kind, weight in steps)
    if abs(rest) >= 0.05:
        steps.append((_("The other candidates, and smaller facts"), "rest", rest))
    ends = [0.0]
    for _text, _kind, weight in steps:
        ends.append(ends[-1] + weight)
    low, high = min(ends), max(ends)
    scale = WIDTH / ((high - low) or 1.0)

    def place(value: float) -> float:
        return round((value - low) * scale, 2)

    bars = [Bar(_("To begin with: this product or a new one, equally likely"), "", "", "", place(0.0), 0.0)]
    for (text, kind, weight), start, end in zip(steps, ends, ends[1:], strict=False):
        left, right = sorted((place(start), place(end)))
        direction = "for" if weight > 0 else "against"
        shown = f"{weight:+.1f}".replace("-", "\N{MINUS SIGN}")
        bars.append(Bar(text, kind, direction, shown, left, max(right - left, 0.4)))
    left, right = sorted((place(0.0), place(ends[-1])))
    direction = "for" if ends[-1] > 0 else "against"
    bars.append(Bar(percent(probability), "", direction, "", left, max(right - left, 0.4), is_total=True))
    return bars


def _log_odds(probability: float) -> float:
    inside = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(inside / (1 - inside))
