"""Export in the admin's lists: all rows that a list shows with its filters and search, or those that were chosen."""

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
from unfold.admin import ModelAdmin

from products.exporting import FORMATS, ExportError, Table, check_xlsx_limits


class ExportAdmin(ModelAdmin):
    """A list whose rows whoever may see them takes along as CSV or XLSX."""

    list_before_template = "catalogmatch/export_links.html"

    def export_table(self, ids: Sequence[int]) -> Table:
        """The rows of these ids in this order, a header first. Raises ExportError."""
        raise NotImplementedError

    def longest_text(self, ids: Sequence[int]) -> int:
        """Characters of the longest text in that table."""
        raise NotImplementedError

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export_csv(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseBase:
        return self._export(request, rows, "csv")

    @admin.action(description=_("Export as XLSX"), permissions=["view"])
    def export_xlsx(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseBase:
        return self._export(request, rows, "xlsx")

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [path(f"export.{kind}", self._list_as(kind), name=f"{name}_export_{kind}") for kind in FORMATS]
        return own + list(super().get_urls())

    def _list_as(self, kind: str) -> Any:
        """A view that answers with all rows of the list that has this query string."""

        def export(request: HttpRequest) -> HttpResponseBase:
            if not self.has_view_permission(request):
                raise PermissionDenied
            try:
                rows = self.get_changelist_instance(request).get_queryset(request)
            except IncorrectLookupParameters:
                return HttpResponseRedirect(self._list_address(request))
            return self._export(request, rows, kind)

        return self.admin_site.admin_view(require_safe(export))

    def _export(self, request: HttpRequest, rows: QuerySet[Any], kind: str) -> HttpResponseBase:
        # All ids at once, eight bytes each: what is exported is what the list was at this moment, in its order.
        plain = rows.prefetch_related(None).select_related(None)
        ids = array("q", plain.values_list("pk", flat=True).iterator(chunk_size=5000))
        try:
            if kind == "xlsx":
                check_xlsx_limits(len(ids), self.longest_text(ids))
            table = self.export_table(ids)
        except ExportError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(self._list_address(request))
        content_type, written = FORMATS[kind]
        name = f"{self.opts.model_name}-{timezone.localdate().isoformat()}.{kind}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(written(table), content_type=content_type, headers=headers)

    def _list_address(self, request: HttpRequest) -> str:
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        query = request.META.get("QUERY_STRING", "")
        return f"{address}?{query}" if query else address
