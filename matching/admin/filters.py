"""Filters of the lists of matches and products, for review."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import DropdownFilter

from matching.models import Decision, Match
from matching.review.queue import BANDS, midnight
from products.admin.filters import CategoryFilter
from products.models import Product


class ScoreBandFilter(DropdownFilter):
    title = _("score")
    parameter_name = "score"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(band.name, band.label) for band in BANDS]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Match]) -> QuerySet[Match]:
        band = next((band for band in BANDS if band.name == self.value()), None)
        return queryset.filter(band.condition()) if band else queryset


class VerdictDateFilter(DropdownFilter):
    """Matches by the day of their verdict."""

    title = _("verdict given")
    parameter_name = "judged"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [("mine", _("today, by me")), ("today", _("today")), ("month", _("in the last 30 days"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Match]) -> QuerySet[Match]:
        days = {"mine": 1, "today": 1, "month": 30}.get(self.value() or "")
        if days is None:
            return queryset
        reviewed = queryset.filter(reviewed_at__gte=midnight(timezone.localdate() - timedelta(days=days - 1)))
        return reviewed.filter(reviewer_id=request.user.pk) if self.value() == "mine" else reviewed


class DecisionFilter(DropdownFilter):
    """Matches by the decision on their case."""

    title = _("decision on the case")
    parameter_name = "decision"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return list(Decision.Kind.choices)

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Match]) -> QuerySet[Match]:
        return queryset.filter(product__decision__kind=self.value()) if self.value() else queryset


class DeciderFilter(DropdownFilter):
    """Matches by who decided their case."""

    title = _("decided by")
    parameter_name = "made_by"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [("policy", _("the policy")), ("people", _("people"))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Match]) -> QuerySet[Match]:
        automatic = {"policy": True, "people": False}.get(self.value() or "")
        return queryset if automatic is None else queryset.filter(product__decision__automatic=automatic)


class QueryCategoryFilter(CategoryFilter):
    field = "product__category"


class PendingMatchesFilter(DropdownFilter):
    """Products with pending or confirmed matches, or new products without candidates."""

    title = _("matches")
    parameter_name = "found"  # an input named "matches" would hide the form's method of that name

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [("waiting", _("waiting for a verdict")), ("confirmed", _("confirmed")), ("none", _("no candidates"))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        match self.value():
            case "waiting":
                return _with_matches(queryset, Match.Status.PENDING)
            case "confirmed":
                return _with_matches(queryset, Match.Status.CONFIRMED)
            case "none":
                return queryset.filter(is_historical=False).exclude(pk__in=Match.objects.values("product"))
            case _other:
                return queryset


def _with_matches(products: QuerySet[Product], status: str) -> QuerySet[Product]:
    """Filter by EXISTS, which looks up one product in the index. A subquery of keys would list all matches first."""
    return products.filter(Exists(Match.objects.filter(product=OuterRef("pk"), review_status=status)))
