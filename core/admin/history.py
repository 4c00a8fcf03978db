"""History pages of the admin: the entries of one row or of several tables. What an entry means is said elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from core.admin.lists import CheckedAdmin
from core.database.ids import parse_id
from core.history.timeline import Entry, read_timeline

HistoryRecords = Sequence[QuerySet[Any]]
DescribeEntries = Callable[[Sequence[Entry]], Sequence[Any]]


class HistoryAdmin(CheckedAdmin):
    """Shows the history of a row from its records, even if the row is gone."""

    describe_entries: DescribeEntries  # a static method

    def history_records(self, object_id: int) -> HistoryRecords:
        """Return the querysets of historical models that make up the history of one row."""
        raise NotImplementedError

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        row_id = parse_id(object_id)
        records = self.history_records(row_id) if row_id is not None else ()
        row = self.model.objects.filter(pk=row_id).first() if records else None
        if row is None and not any(queryset.exists() for queryset in records):
            raise Http404(_("No history is known for this."))
        context = {"title": _("History"), "opts": self.opts, "object": row, **(extra_context or {})}
        if row is not None:
            context["object_url"] = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])
        return history_page(request, records, self.describe_entries, context)


def history_page(
    request: HttpRequest, records: HistoryRecords, describe: DescribeEntries, context: dict[str, Any]
) -> HttpResponse:
    """Show one page of these records, newest first. ``?before=`` is the cursor of an older page."""
    timeline = read_timeline(records, request.GET.get("before", ""))
    context = {
        **admin.site.each_context(request),
        **context,
        "lines": describe(timeline.entries),
        "older": timeline.older,
        "oldest": min(filter(None, (_oldest(queryset) for queryset in records)), default=None),
        "kept_days": settings.HISTORY_DAYS,
        "kept_bytes": settings.QUOTA_BYTES["history"],
    }
    return TemplateResponse(request, "catalogmatch/history.html", context)


def _oldest(records: QuerySet[Any]) -> datetime | None:
    return records.order_by("history_date").values_list("history_date", flat=True).first()
