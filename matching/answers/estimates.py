"""Estimate what is not known of a product from the catalogue products that it probably is.

The price and other numbers of confirmed and probable matches, as median and range with the count behind them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from matching.evidence.quantities import quantities, unit_of
from matching.evidence.words import normalise
from products.models import Product

PROBABLE = 0.5  # a match that is at least this likely counts
PRICE = "price"
MAX_ESTIMATES = 30  # for one product
MAX_TEXT = 100  # characters of a value that may be a number
_NUMBER = re.compile(r"-?\d{1,12}(?:[.,]\d{1,6})?")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number of the matches of a product. ``unit``: the currency of a price, or of a quantity; else ""."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    count: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def is_probable(verdict: str, probability: float | None) -> bool:
    """Return whether a match counts: it is confirmed, or it is likely and waits for a verdict."""
    return verdict == "confirmed" or (verdict == "pending" and (probability or 0.0) >= PROBABLE)


def estimates_of(matched: Mapping[int, Collection[int]]) -> dict[int, list[Estimate]]:
    """Return the estimates for some products by the ids of their confirmed and probable matches, in one query."""
    wanted = {pk for ids in matched.values() for pk in ids}
    rows = Product.objects.filter(pk__in=wanted).values_list("pk", "price", "currency", "attributes") if wanted else ()
    known = {pk: _numbers(price, currency, attributes) for pk, price, currency, attributes in rows}
    return {product: _estimates(known[pk] for pk in ids if pk in known) for product, ids in matched.items()}


def _estimates(found: Iterable[Mapping[tuple[str, str], float]]) -> list[Estimate]:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for numbers in found:
        for key, value in numbers.items():
            values[key].append(value)
    # Prices first, then what most matches have. Each currency and each unit stands alone: none is converted.
    order = sorted(values, key=lambda key: (key[0] != PRICE, -len(values[key]), key))
    return [
        Estimate(
            name, unit, round(statistics.median(values[name, unit]), 4), min(values[name, unit]),
            max(values[name, unit]), len(values[name, unit]),
        )
        for name, unit in order[:MAX_ESTIMATES]
    ]  # fmt: skip


def _numbers(price: Decimal | None, currency: str, attributes: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return the numbers of a product by name and unit."""
    found = {(PRICE, currency): float(price)} if price is not None else {}
    for name, value in attributes.items():
        number = _number(value)
        if number is not None and str(name) != PRICE:
            found[str(name), number[0]] = number[1]
    return found


def _number(value: Any) -> tuple[str, float] | None:
    """Return the unit and number of a value such as 12, "12,5" or "500 ml". None if it is neither."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return ("", float(value)) if math.isfinite(value) and abs(value) < 1e15 else None
    text = str(value).strip() if isinstance(value, str) else ""
    if not text or len(text) > MAX_TEXT:
        return None
    if _NUMBER.fullmatch(text):
        return "", float(text.replace(",", "."))
    named = quantities(normalise(text))
    if len(named) == 1 and text[:1].isdigit():
        quantity = next(iter(named))
        return unit_of(quantity), quantity.amount
    return None
