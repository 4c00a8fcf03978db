"""SVG charts drawn by the server: numbers become coordinates here, and templates write the elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

WIDTH, HEIGHT = 600, 120  # units of a chart, which the page stretches to the available width
# Two units more above and below, so that a line at an edge is not cut.
FRAME = {"view_box": f"0 -2 {WIDTH} {HEIGHT + 4}", "height": HEIGHT}
MIN_BAR_HEIGHT = 2  # units; a small value stays visible beside a large one
MAX_GAP = timedelta(minutes=5)  # a line is interrupted if nothing was measured for longer


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of one day."""

    day: date
    value: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """One number per day. ``top`` is the largest one, whose bar has the full height."""

    bars: list[Bar]
    total: int
    top: int


@dataclass(frozen=True, slots=True)
class Line:
    """A number over time. ``parts`` has the points of each unbroken part, as an SVG polyline takes them."""

    name: str
    parts: list[str]
    latest: float
    highest: float


def bar_chart(values: Mapping[date, int], days: Sequence[date]) -> BarChart:
    """Return a bar for each day. Days that are not in ``values`` have none."""
    top = max((values.get(day, 0) for day in days), default=0)
    step = WIDTH / len(days)
    bars = []
    for number, day in enumerate(days):
        value = values.get(day, 0)
        height = HEIGHT * value / top if top else 0
        if value:
            height = max(height, MIN_BAR_HEIGHT)
        bars.append(Bar(day, value, round(number * step, 1), round(HEIGHT - height, 1), round(step * 0.8, 1), height))
    return BarChart(bars, sum(bar.value for bar in bars), top)


def line_chart(
    name: str, samples: Sequence[tuple[datetime, float]], since: datetime, until: datetime, top: float
) -> Line | None:
    """Return the line of these samples, or None if there are none.

    ``samples`` are in order of time. The chart shows ``since`` to ``until`` and 0 to ``top``.
    """
    if not samples:
        return None
    seconds = (until - since).total_seconds()
    parts: list[list[str]] = []
    previous: datetime | None = None
    for moment, value in samples:
        if previous is None or moment - previous > MAX_GAP:
            parts.append([])
        x = WIDTH * (moment - since).total_seconds() / seconds
        parts[-1].append(f"{x:.1f},{HEIGHT - HEIGHT * value / top if top else HEIGHT:.1f}")
        previous = moment
    values = [value for _, value in samples]
    return Line(name, [" ".join(points) for points in parts], values[-1], max(values))


def last_days(count: int, today: date) -> list[date]:
    """Return the last ``count`` days, ending with today."""
    return [today - timedelta(days=number) for number in reversed(range(count))]
