"""What one product of the demo is: everything that stays the same from one of its photographs to the next."""

from __future__ import annotations

from dataclasses import dataclass

from products.demo.artwork import Palette


@dataclass(frozen=True, slots=True)
class Design:
    """``model`` counts the shapes of a category from 0; ``seed`` decides what the pattern leaves open."""

    name: str
    brand: str
    palette: Palette
    pattern: str
    emblem: str
    model: int
    seed: int
