"""Admin lists that stay fast on a full catalogue: a late page costs about as much as the first."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

MAX_SEARCH_WORDS = 10  # each word is a condition on every row


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


class LongListAdmin(ModelAdmin):
    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Any], per_page: int, *args: Any, **kwargs: Any
    ) -> DeferredJoinPaginator:
        return DeferredJoinPaginator(queryset, per_page, *args, rows=self.get_queryset(request), **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = " ".join(search_term.split()[:MAX_SEARCH_WORDS])
        return super().get_search_results(request, queryset, words)  # type: ignore[no-any-return]
