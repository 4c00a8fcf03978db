"""Actions on all rows that a list shows, however many: in bounded steps, and by the queue where it takes longer."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.admin import ModelAdmin

from products.steps import ids_in_steps

NAMED = 20  # rows that a question names one by one
DELETE_STEP = 500


class BulkDeleteAdmin(ModelAdmin):
    """Deletes chosen rows step by step, where Django's own action would load them all with all that hangs on them."""

    def deletion_counts(self, rows: QuerySet[Any]) -> list[tuple[str, int]]:
        """(what, how many) go when these rows go; the rows themselves first."""
        return [(str(self.opts.verbose_name_plural), rows.count())]

    @admin.action(permissions=["delete"], description=gettext_lazy("Delete selected %(verbose_name_plural)s"))
    def delete_selected(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
        """Ask, and on the answer delete; ask again when it is not as many rows any more as the person said yes to."""
        counts = self.deletion_counts(rows)
        count = counts[0][1]
        if request.POST.get("expected") == str(count):
            self._delete(rows)
            text = ngettext("%d was deleted.", "%d were deleted.", count) % count
            messages.success(request, text)
            return None
        if "expected" in request.POST:
            messages.warning(request, _("Meanwhile the list has changed. Nothing was deleted; look again."))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Delete?"),
            "opts": self.opts,
            "counts": counts,
            "count": count,
            "named": rows.order_by("pk")[:NAMED],
            "more": max(0, count - NAMED),
            "checkbox": ACTION_CHECKBOX_NAME,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
        }
        return TemplateResponse(request, "catalogmatch/delete_selected.html", context)

    def _delete(self, rows: QuerySet[Any]) -> None:
        for ids in ids_in_steps(rows, DELETE_STEP):
            self.model._default_manager.filter(pk__in=ids).delete()
