"""The admin's pages of history: who did what to a product, its pictures and its matches, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from core.history.timeline import Entry, read_timeline
from products.models import Product

HistoryRecords = Sequence[QuerySet[Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """An entry as the page tells it. ``subject``: the name of its product; ``product_id``: None where that is gone."""

    entry: Entry
    sentence: str
    subject: str
    product_id: int | None


class HistoryAdmin(ModelAdmin):
    """A model's history is told from its records, also when the row itself is gone."""

    def history_records(self, object_id: int) -> HistoryRecords:
        """Querysets of historical models that make up the history of one row."""
        raise NotImplementedError

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        records = self.history_records(int(object_id)) if object_id.isdecimal() else ()
        row = self.model.objects.filter(pk=object_id).first() if records else None
        if row is None and not any(queryset.exists() for queryset in records):
            raise Http404(_("Nothing is known of this."))
        context = {"title": _("History"), "opts": self.opts, "object": row, **(extra_context or {})}
        if row is not None:
            context["back"] = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])
        return history_page(request, records, context)


def history_page(request: HttpRequest, records: HistoryRecords, context: dict[str, Any]) -> HttpResponse:
    """Entries of these records, newest first, as many as fit a page, with a way to the older ones (``?before=``)."""
    found = read_timeline(records, request.GET.get("before", ""))
    context = {
        **admin.site.each_context(request),
        **context,
        "lines": history_lines(found.entries),
        "older": found.older,
    }
    return TemplateResponse(request, "catalogmatch/history.html", context)


def history_lines(entries: Sequence[Entry]) -> list[Line]:
    """The entries in words, with the names of their products; two queries in all."""
    concerned = [(entry, _product_ids(entry.record, entry.kind)) for entry in entries]
    names, alive = product_names({pk for _entry, ids in concerned for pk in ids})
    told = []
    for entry, ids in concerned:
        subject = " → ".join(names.get(pk, f"#{pk}") for pk in ids)
        told.append(Line(entry, _sentence(entry), subject, ids[0] if ids[0] in alive else None))
    return told


def product_names(ids: Iterable[int]) -> tuple[dict[int, str], set[int]]:
    """What these products are or were called, by id, and the ids of those that are there."""
    wanted = set(ids)
    alive = {product.pk: str(product) for product in Product.objects.filter(pk__in=wanted).only("sku", "name")}
    past = Product.history.filter(id__in=wanted - alive.keys()).order_by("history_id")
    gone = {pk: name or sku or f"#{pk}" for pk, name, sku in past.values_list("id", "name", "sku")}
    return alive | gone, set(alive)


def _product_ids(record: Any, kind: str) -> list[int]:
    match kind:
        case "product":
            return [record.id]
        case "productimage":
            return [record.product_id]
        case _:
            return [record.product_id, record.candidate_id]


def _sentence(entry: Entry) -> str:
    record = entry.record
    match entry.kind, record.history_type:
        case "product", "+":
            return _("Product added")
        case "product", "~":
            return _("Product changed")
        case "product", _other:
            return _("Product deleted")
        case "productimage", "+":
            return _("Picture added: %(name)s") % {"name": record.original_name or f"#{record.id}"}
        case "productimage", _other:
            return _("Picture removed: %(name)s") % {"name": record.original_name or f"#{record.id}"}
        case _match, "-":
            return _("Match deleted (score %(score).1f)") % {"score": record.similarity_score}
        case _match, _other:
            return _("Verdict (score %(score).1f)") % {"score": record.similarity_score}
