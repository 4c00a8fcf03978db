"""Plots as the server draws them: numbers become coordinates of an SVG, and the template writes it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

WIDTH, HEIGHT = 600, 120  # units of the drawing, which is stretched to its place
MAX_GAP = timedelta(minutes=5)  # a line is broken where nothing was measured for so long


@dataclass(frozen=True, slots=True)
class Bar:
    """One day's bar in the drawing."""

    day: date
    value: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class BarPlot:
    """A number for each day. ``total``: their sum; ``top``: the largest, which fills the height."""

    bars: list[Bar]
    total: int
    top: int


@dataclass(frozen=True, slots=True)
class Line:
    """A number over time. ``parts``: the points of each unbroken part, as an SVG polyline takes them."""

    name: str
    parts: list[str]
    latest: float
    highest: float


def bar_plot(values: Mapping[date, int], days: Sequence[date]) -> BarPlot:
    """A bar for each of the days; a day that is not in ``values`` has none."""
    top = max((values.get(day, 0) for day in days), default=0)
    step = WIDTH / len(days)
    drawn = []
    for number, day in enumerate(days):
        value = values.get(day, 0)
        height = HEIGHT * value / top if top else 0
        if value:
            height = max(height, 2)  # a little can be seen beside a lot
        drawn.append(Bar(day, value, round(number * step, 1), round(HEIGHT - height, 1), round(step * 0.8, 1), height))
    return BarPlot(drawn, sum(bar.value for bar in drawn), top)


def line_plot(
    name: str, samples: Sequence[tuple[datetime, float]], since: datetime, until: datetime, top: float
) -> Line | None:
    """The samples, in order of time, between two moments and 0 and ``top``; None without any."""
    if not samples:
        return None
    seconds = (until - since).total_seconds()
    parts: list[list[str]] = []
    before: datetime | None = None
    for moment, value in samples:
        if before is None or moment - before > MAX_GAP:
            parts.append([])
        x = WIDTH * (moment - since).total_seconds() / seconds
        parts[-1].append(f"{x:.1f},{HEIGHT - HEIGHT * value / top if top else HEIGHT:.1f}")
        before = moment
    values = [value for _, value in samples]
    return Line(name, [" ".join(points) for points in parts], values[-1], max(values))


def last_days(count: int, today: date) -> list[date]:
    """So many days, of which the last is today."""
    return [today - timedelta(days=number) for number in reversed(range(count))]
