"""Deletion of many rows from a list: a confirmation page, and a page that shows the progress of a background job."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from core.admin.lists import CheckedAdmin
from core.admin.requests import is_htmx, user_of
from core.deletion import delete_rows
from products import deletion_jobs
from products.models import Deletion

MAX_NAMED_ROWS = 20  # rows that the confirmation page lists by name


class BulkDeleteAdmin(CheckedAdmin):
    """Deletes the selected rows with a few statements. Django's own action loads every dependent row."""

    def deletion_counts(self, rows: QuerySet[Any]) -> list[tuple[str, int]]:
        """Return (name, number) of each kind of rows that are deleted with these rows."""
        return []

    @admin.action(permissions=["delete"], description=gettext_lazy("Delete selected %(verbose_name_plural)s"))
    def delete_selected(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
        """Show a confirmation page, then delete. Ask again if the number of rows has changed."""
        count = rows.count()
        if request.POST.get("expected") == str(count):
            return self._delete(request, rows, count)
        if "expected" in request.POST:
            messages.warning(request, _("The list has changed, and nothing was deleted. Check the new list."))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Delete?"),
            "opts": self.opts,
            "counts": [(str(self.opts.verbose_name_plural), count), *self.deletion_counts(rows)],
            "count": count,
            "named_rows": rows.order_by("pk")[:MAX_NAMED_ROWS],
            "unnamed_count": max(0, count - MAX_NAMED_ROWS),
            "in_background": count > deletion_jobs.INLINE_LIMIT,
            "checkbox": ACTION_CHECKBOX_NAME,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
        }
        return TemplateResponse(request, "catalogmatch/delete_selected.html", context)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list. Link to the progress of the user's running deletions from it."""
        if request.method == "GET":
            jobs = Deletion.objects.filter(user=user_of(request), label=self.opts.label, state__in=Deletion.ACTIVE)
            for job in jobs:
                text = _("Your deletion is running: %(done)d of %(total)d rows.") % {
                    "done": job.done,
                    "total": job.total,
                }
                url = reverse("admin:products_deletion", args=[job.pk])
                messages.info(request, format_html('<a class="cm-link" href="{}">{}</a>', url, text))
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def _delete(self, request: HttpRequest, rows: QuerySet[Any], count: int) -> HttpResponse | None:
        if count > deletion_jobs.INLINE_LIMIT:
            return redirect("admin:products_deletion", deletion_jobs.start(user_of(request), rows).pk)
        delete_rows(rows)
        messages.success(request, ngettext("%d was deleted.", "%d were deleted.", count) % count)
        return None


def urls(site: AdminSite) -> list[URLPattern]:
    """Return the URLs of deletion jobs, which are the same for every list."""
    view = site.admin_view
    return [
        path("deletion/<uuid:pk>/", view(show), name="products_deletion"),
        path("deletion/<uuid:pk>/run/", view(run), name="products_deletion_run"),
        path("deletion/<uuid:pk>/stop/", view(stop), name="products_deletion_stop"),
    ]


@require_safe
def show(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show the job. Return only its progress to htmx, and reload the page when it has ended."""
    job = _own_job(request, pk)
    context = {"job": job, "title": _("Deletion")}
    if is_htmx(request):
        if not job.is_active:
            return HttpResponse(headers={"HX-Refresh": "true"})
        return TemplateResponse(request, "catalogmatch/deletion_progress.html", context)
    options = job.model._meta
    context["list_url"] = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return TemplateResponse(request, "catalogmatch/deletion_job.html", {**admin.site.each_context(request), **context})


@require_POST
def run(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Continue a job that a restart of the server has stopped."""
    if not deletion_jobs.resume(_own_job(request, pk)):
        messages.info(request, _("This deletion is already running or done."))
    return redirect("admin:products_deletion", pk)


@require_POST
def stop(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Stop the job. Rows that are not deleted yet stay."""
    if not deletion_jobs.stop(_own_job(request, pk)):
        messages.info(request, _("This deletion is already done."))
    return redirect("admin:products_deletion", pk)


def _own_job(request: HttpRequest, pk: uuid.UUID) -> Deletion:
    """Return the user's own deletion job, or raise 404. Raise PermissionDenied if they may no longer delete."""
    job = get_object_or_404(Deletion, pk=pk, user=user_of(request))
    if not admin.site.get_model_admin(job.model).has_delete_permission(request):
        raise PermissionDenied
    return job
