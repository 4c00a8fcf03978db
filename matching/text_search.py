"""Text search for matches by the words of their products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from matching.models import Match
from products.text.search import matching_ids

MAX_PRODUCTS = 1_000  # whose matches are then found by an index


@dataclass(frozen=True, slots=True)
class TextMatches:
    """The matches that a text search found."""

    matches: QuerySet[Match]
    is_truncated: bool  # only the newest of more than MAX_PRODUCTS products were searched


def search_matches(matches: QuerySet[Match], words: Sequence[str]) -> TextMatches:
    """Return the matches with a product that has all the words.

    If no product has them all, each word must occur in one of the two products. Searches products first, because
    matches are many more. Takes at most the newest MAX_PRODUCTS, so that a very common word takes no longer.
    """
    with_all = _product_ids(words)
    groups = [with_all] if with_all or len(words) < 2 else [_product_ids([word]) for word in words]
    for products in groups:
        newest = products[:MAX_PRODUCTS]
        matches = matches.filter(Q(product__in=newest) | Q(candidate__in=newest))
    return TextMatches(matches, any(len(products) > MAX_PRODUCTS for products in groups))


def _product_ids(words: Sequence[str]) -> list[int]:
    """Return the ids of the newest products with all the words.

    They are at most MAX_PRODUCTS + 1.
    """
    return matching_ids(" ".join(words), MAX_PRODUCTS + 1)
