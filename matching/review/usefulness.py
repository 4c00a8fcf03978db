"""The order of review "most useful first": uncertain cases and random ones in turn.

Decisions on uncertain cases teach the probabilities most, but say nothing about the other cases. So every second case
is a random one. Which half a case is in depends on its id alone: ``is_random`` tells it later too, and an estimate from
the decisions of that half is honest.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import BigIntegerField, Case, F, FloatField, Max, OuterRef, Subquery, Value, When, Window
from django.db.models.functions import Cast, Coalesce, Greatest, RowNumber

from matching.models import Match

# Numbers that look random, from ids: (a·id + b)^5 mod p is a permutation below the prime p, because 5 has no common
# divisor with p - 1. Each product of two numbers fits into 64 bits.
_PRIME, _FACTOR, _SUMMAND = 2**31 - 1, 1_103_515_245, 12_345


def is_random(product_id: int) -> bool:
    """Return whether a case is in the half that is reviewed in random order."""
    return pow((product_id % _PRIME * _FACTOR + _SUMMAND) % _PRIME, 5, _PRIME) % 2 == 1


def most_useful_first(products: Any) -> Any:
    """Order cases: by turns the most uncertain one and a random one.

    A case is the more uncertain, the less likely its most likely answer is: a candidate, or none of them. Cases
    without probabilities are the last of their half.
    """
    key = Case(When(_random=1, then=Cast("_number", FloatField())), default=F("_surest"), output_field=FloatField())
    turn = Window(RowNumber(), partition_by=F("_random"), order_by=(key.asc(), F("pk").desc()))
    return _keyed(products).annotate(_turn=turn).order_by("_turn", "_random", "-pk")


def next_useful(products: Any, after: int | None, seen: Collection[int]) -> int | None:
    """Return the most useful case of the half that ``after`` is not in, without the cases that were seen.

    If that half has none, return one of the other half, or None.
    """
    unseen = _keyed(products.exclude(pk__in={*seen, *([after] if after is not None else [])}))
    random_first = after is not None and not is_random(after)
    for half, key in ((1, "_number"), (0, "_surest")) if random_first else ((0, "_surest"), (1, "_number")):
        found: int | None = unseen.filter(_random=half).order_by(key, "-pk").values_list("pk", flat=True).first()
        if found is not None:
            return found
    return None


def _keyed(products: Any) -> Any:
    """Add to cases which half they are in, and the key of each half: a random number, and how sure the answer is."""
    of_case = Match.objects.filter(product=OuterRef("pk")).order_by().values("product")
    best = of_case.annotate(best=Max("probability")).values("best")
    surest = Greatest(
        Coalesce(Subquery(best), Value(0.0)), Coalesce(F("answer__not_in_catalogue"), Value(1.0)),
        output_field=FloatField(),
    )  # fmt: skip
    return products.order_by().annotate(_number=_number(), _surest=surest).annotate(_random=F("_number") % 2)


def _number() -> Any:
    """Return the random number of a product as an expression. Its parity is the half."""
    start = (Cast("pk", BigIntegerField()) % _PRIME * _FACTOR + _SUMMAND) % _PRIME
    fourth = ((start * start) % _PRIME) * ((start * start) % _PRIME) % _PRIME
    return Cast(fourth * start % _PRIME, BigIntegerField())
