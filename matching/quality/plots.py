"""Coordinates of the charts of the page Quality. Templates write the elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 320, 200  # units of the plotted area
LEFT, TOP, RIGHT, BOTTOM = 36, 10, 10, 26  # room for the labels
VIEW_BOX = f"0 0 {LEFT + WIDTH + RIGHT} {TOP + HEIGHT + BOTTOM}"


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart of shares from 0 to 1. Coordinates are in units of the drawing."""

    lines: list[tuple[str, str]] = field(default_factory=list)  # class and points of a polyline
    dots: list[tuple[float, float, str]] = field(default_factory=list)  # centre and what it says
    whiskers: list[tuple[float, float, float]] = field(default_factory=list)  # x, and both ends
    across: list[tuple[float, str]] = field(default_factory=list)  # labels below, and their x
    up: list[tuple[float, str]] = field(default_factory=list)  # labels on the left, and their y

    view_box = VIEW_BOX
    left, right, top, bottom = LEFT, LEFT + WIDTH, TOP, TOP + HEIGHT


def x_of(share: float) -> float:
    return round(LEFT + WIDTH * share, 1)


def y_of(share: float) -> float:
    return round(TOP + HEIGHT * (1 - share), 1)


def points(pairs: Sequence[tuple[float, float]]) -> str:
    """Return pairs of shares as an SVG polyline takes them."""
    return " ".join(f"{x_of(x)},{y_of(y)}" for x, y in pairs)


def plot(across: Sequence[tuple[float, str]] = ()) -> Plot:
    """Return an empty chart with labels: shares on the left, and below those given, or shares too."""
    shares = [(share, f"{100 * share:.0f}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return Plot(
        across=[(x_of(x), text) for x, text in across or shares], up=[(y_of(y) + 4, text) for y, text in shares]
    )
