"""Admin lists that stay fast on a full catalogue: a late page costs about as much as the first."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest

from core.admin.lists import CheckedAdmin

MAX_SEARCH_WORDS = 10  # each word is a condition on every row
# A database compares a long text at each of its positions with each character of the search.
MAX_SEARCH_LENGTH = 200
# Filters that no page offers. A regular expression can take for ever on a short text.
SCANNING_LOOKUPS = frozenset({"contains", "icontains", "regex", "iregex"})


class DeferredJoinPaginator(Paginator):  # type: ignore[type-arg]  # Django's own is not generic when it runs
    """Finds the keys of a page before it reads its rows.

    A database joins and computes what a list shows for every row that it sorts or skips before the page. Of keys
    alone it sorts and skips hundreds of thousands in milliseconds. ``rows`` has all rows of the list, with
    everything that the list shows.
    """

    def __init__(self, object_list: QuerySet[Any], *args: Any, rows: QuerySet[Any], **options: Any) -> None:
        super().__init__(object_list, *args, **options)
        self.rows = rows

    def page(self, number: int | str) -> Page[Any]:
        page = super().page(number)
        page_queryset: Any = page.object_list
        keys = list(page_queryset.values_list("pk", flat=True))
        page.object_list = self.rows.filter(pk__in=keys).order_by(*page_queryset.query.order_by)
        return page


def search_words(text: str) -> list[str]:
    """Return the words of a search, at most as many and as long as a search may have."""
    return text[:MAX_SEARCH_LENGTH].split()[:MAX_SEARCH_WORDS]


class BoundedLookupsAdmin(CheckedAdmin):
    """A list whose query string cannot ask for a scan. Django allows any lookup of the model's own fields."""

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        is_scan = not SCANNING_LOOKUPS.isdisjoint(lookup.split(LOOKUP_SEP))
        return not is_scan and bool(super().lookup_allowed(lookup, value, request))


class LongListAdmin(BoundedLookupsAdmin):
    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Any], per_page: int, *args: Any, **kwargs: Any
    ) -> DeferredJoinPaginator:
        return DeferredJoinPaginator(queryset, per_page, *args, rows=self.get_queryset(request), **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = " ".join(search_words(search_term))
        return super().get_search_results(request, queryset, words)  # type: ignore[no-any-return]
