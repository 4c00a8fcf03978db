"""Matches by words: those of a product that has them in its SKU or name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from matching.models import Match
from products.models import Product

MAX_PRODUCTS = 1_000  # products with the words, whose matches are then found by an index


@dataclass(frozen=True, slots=True)
class TextMatches:
    """Matches, and whether they are only those of the newest ``NEWEST`` products that have the words."""

    matches: QuerySet[Match]
    more: bool


def search_matches(matches: QuerySet[Match], words: Sequence[str]) -> TextMatches:
    """Matches of which one product has all the words; where no product has, those that have each in one of the two.

    The products are asked for first, since matches are many more, and of very many the newest are taken, so that the
    answer takes the same time for a word that everything has.
    """
    together = _products(words)
    groups = [together] if together or len(words) < 2 else [_products([word]) for word in words]
    for products in groups:
        newest = products[:MAX_PRODUCTS]
        matches = matches.filter(Q(product__in=newest) | Q(candidate__in=newest))
    return TextMatches(matches, any(len(products) > MAX_PRODUCTS for products in groups))


def _products(words: Sequence[str]) -> list[int]:
    """Ids of the newest products with all the words, up to one more than ``NEWEST``."""
    products = Product.objects.order_by("-pk")
    for word in words:
        products = products.filter(Q(sku__icontains=word) | Q(name__icontains=word))
    return list(products.values_list("pk", flat=True)[: MAX_PRODUCTS + 1])
