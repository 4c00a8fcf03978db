"""The history of everything: what people did to products, pictures and matches, also to those that are gone."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from core.admin.pages import admin_page
from core.admin.requests import require_permissions
from core.history.recording import ChangeSource
from matching.models import Match
from products.admin.history import HistoryRecords, history_page
from products.models import Product, ProductImage

KINDS = {
    "products": gettext_lazy("Products"),
    "pictures": gettext_lazy("Pictures"),
    "verdicts": gettext_lazy("Verdicts"),
    "deleted": gettext_lazy("Deleted"),
}


@admin_page("history/", name="history")
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """All entries, or those of one person (``?who=``) and of one kind (``?what=``, a key of KINDS)."""
    require_permissions(request, "products.view_product", "matching.view_match")
    who, what = request.GET.get("who", ""), request.GET.get("what", "")
    chosen = {"who": who if who.isdecimal() else "", "what": what if what in KINDS else ""}
    context = {
        "title": _("History"),
        "filters": "catalogmatch/history_filters.html",
        "people": User.objects.order_by("username"),
        "kinds": KINDS,
        "chosen": chosen,
        "kept_query": f"&{urlencode(chosen)}",
    }
    return history_page(request, _records(**chosen), context)


def _records(who: str, what: str) -> HistoryRecords:
    models: dict[str, Any] = {"products": Product, "pictures": ProductImage, "verdicts": Match}
    each: list[QuerySet[Any]] = [
        model.history.exclude(history_change_reason=ChangeSource.BEFORE)
        for name, model in models.items()
        if what in ("", "deleted", name)
    ]
    if what == "deleted":
        each = [records.filter(history_type="-") for records in each]
    return [records.filter(history_user=who) for records in each] if who else each
