"""The page History: all changes to products, images and matches, including deleted ones."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from core.admin.history import HistoryRecords, history_page
from core.admin.pages import admin_page
from core.admin.requests import require_permissions
from core.database.ids import parse_id
from core.history.recording import ChangeSource
from matching.models import Decision, Match
from matching.review.queue import midnight
from products.admin.history import history_lines
from products.models import Product, ProductImage

KINDS = {
    "products": gettext_lazy("Products"),
    "pictures": gettext_lazy("Images"),
    "verdicts": gettext_lazy("Decisions"),
    "deleted": gettext_lazy("Deleted"),
}


@admin_page("history/", name="history")
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Show all entries, or those of one user (``?who=``), one kind (``?what=``, a key of KINDS) or some days.

    The days are ``?since=`` and ``?until=``. An invalid value filters nothing.
    """
    require_permissions(request, "products.view_product", "matching.view_match")
    who, what = request.GET.get("who", ""), request.GET.get("what", "")
    chosen = {"who": who if parse_id(who) is not None else "", "what": what if what in KINDS else ""}
    chosen |= {name: day.isoformat() if (day := _day(request, name)) else "" for name in ("since", "until")}
    context = {
        "title": _("History"),
        "filters": "catalogmatch/history_filters.html",
        "users": User.objects.order_by("username"),
        "kinds": KINDS,
        "chosen": chosen,
        "is_filtered": any(chosen.values()),
        "filter_query": f"&{urlencode(chosen)}",
    }
    return history_page(request, _records(**chosen), history_lines, context)


def _day(request: HttpRequest, name: str) -> date | None:
    """Return a day of the query string that also has a day before and after it, which other time zones need."""
    try:
        day = parse_date(request.GET.get(name, ""))
    except ValueError:
        return None
    return day if day is not None and date(1, 1, 2) <= day <= date(9999, 12, 30) else None


def _records(who: str, what: str, since: str, until: str) -> HistoryRecords:
    models: dict[str, list[Any]] = {
        "products": [Product],
        "pictures": [ProductImage],
        "verdicts": [Decision, Match],
    }
    records: list[QuerySet[Any]] = [
        model.history.exclude(history_change_reason=ChangeSource.BEFORE)
        for name, group in models.items()
        for model in group
        if what in ("", "deleted", name)
    ]
    # A decision is one entry. The verdicts that came with it have its time.
    decided = Decision.history.filter(product_id=OuterRef("product_id"), history_date=OuterRef("history_date"))
    records = [
        queryset.exclude(Exists(decided)) if queryset.model is Match.history.model else queryset for queryset in records
    ]
    if what == "deleted":
        records = [queryset.filter(history_type="-") for queryset in records]
    bounds: dict[str, Any] = {"history_user": who} if who else {}
    if since:
        bounds["history_date__gte"] = midnight(date.fromisoformat(since))
    if until:
        bounds["history_date__lt"] = midnight(date.fromisoformat(until) + timedelta(days=1))
    return [queryset.filter(**bounds) for queryset in records] if bounds else records
