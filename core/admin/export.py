"""Export of admin lists as CSV or XLSX: all rows that a list shows, or the selected ones."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from core.admin.lists import CheckedAdmin
from core.spreadsheets.export import FORMATS, ExportError, ExportTable, check_xlsx_limits


class ExportAdmin(CheckedAdmin):
    """A list that every user who may see it can export. Subclasses define the table."""

    list_before_template = "catalogmatch/export_links.html"

    def export_table(self, ids: Sequence[int]) -> ExportTable:
        """Return the header, then the rows with these ids in this order. May raise ExportError."""
        raise NotImplementedError

    def longest_text(self, ids: Sequence[int]) -> int:
        """Return the number of characters of the longest text in that table."""
        raise NotImplementedError

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export_csv(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseBase:
        return self._export(request, rows, "csv")

    @admin.action(description=_("Export as XLSX"), permissions=["view"])
    def export_xlsx(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseBase:
        return self._export(request, rows, "xlsx")

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        urls = [
            path(f"export.{suffix}", self._export_view(suffix), name=f"{name}_export_{suffix}") for suffix in FORMATS
        ]
        return urls + list(super().get_urls())

    def _export_view(self, suffix: str) -> Any:
        """Return a view that exports all rows of the list with this query string."""

        def export(request: HttpRequest) -> HttpResponseBase:
            if not self.has_view_permission(request):
                raise PermissionDenied
            try:
                rows = self.get_changelist_instance(request).get_queryset(request)
            except IncorrectLookupParameters:
                return HttpResponseRedirect(self._list_url(request))
            return self._export(request, rows, suffix)

        return self.admin_site.admin_view(require_safe(export))

    def _export(self, request: HttpRequest, rows: QuerySet[Any], suffix: str) -> HttpResponseBase:
        # All ids are read at once, eight bytes each, so that the export is the list of this moment in its order.
        bare_rows = rows.prefetch_related(None).select_related(None)
        ids = array("q", bare_rows.values_list("pk", flat=True).iterator(chunk_size=5000))
        try:
            if suffix == "xlsx":
                check_xlsx_limits(len(ids), self.longest_text(ids))
            table = self.export_table(ids)
        except ExportError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(self._list_url(request))
        content_type, write = FORMATS[suffix]
        name = f"{self.opts.model_name}-{timezone.localdate().isoformat()}.{suffix}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(write(table), content_type=content_type, headers=headers)

    def _list_url(self, request: HttpRequest) -> str:
        url = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        query = request.META.get("QUERY_STRING", "")
        return f"{url}?{query}" if query else url
