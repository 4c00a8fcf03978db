"""Deleting the rows that a list shows, however many: asked for with what goes along, and followed on a page."""

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
from unfold.admin import ModelAdmin

from core.admin.requests import is_htmx, user_of
from core.deletion import delete_rows
from products import deletion_jobs
from products.models import Deletion

MAX_LISTED = 20  # rows that a question names one by one


class BulkDeleteAdmin(ModelAdmin):
    """Deletes chosen rows by statements, where Django's own action loads them with all that hangs on them."""

    def deletion_counts(self, rows: QuerySet[Any]) -> list[tuple[str, int]]:
        """(what, how many) go along when these rows go."""
        return []

    @admin.action(permissions=["delete"], description=gettext_lazy("Delete selected %(verbose_name_plural)s"))
    def delete_selected(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
        """Ask, and on the answer delete; ask again when it is not as many rows any more as the person said yes to."""
        count = rows.count()
        if request.POST.get("expected") == str(count):
            return self._delete(request, rows, count)
        if "expected" in request.POST:
            messages.warning(request, _("Meanwhile the list has changed. Nothing was deleted; look again."))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Delete?"),
            "opts": self.opts,
            "counts": [(str(self.opts.verbose_name_plural), count), *self.deletion_counts(rows)],
            "count": count,
            "named": rows.order_by("pk")[:MAX_LISTED],
            "more": max(0, count - MAX_LISTED),
            "in_background": count > deletion_jobs.INLINE_LIMIT,
            "checkbox": ACTION_CHECKBOX_NAME,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
        }
        return TemplateResponse(request, "catalogmatch/delete_selected.html", context)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; to whoever deletes of it at the moment it says where to see how far that is."""
        if request.method == "GET":
            at_work = Deletion.objects.filter(user=user_of(request), label=self.opts.label, state__in=Deletion.ACTIVE)
            for job in at_work:
                text = _("Your deletion is at work: %(done)d of %(total)d rows.") % {
                    "done": job.done,
                    "total": job.total,
                }
                address = reverse("admin:products_deletion", args=[job.pk])
                messages.info(request, format_html('<a class="cm-link" href="{}">{}</a>', address, text))
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def _delete(self, request: HttpRequest, rows: QuerySet[Any], count: int) -> HttpResponse | None:
        if count > deletion_jobs.INLINE_LIMIT:
            return redirect("admin:products_deletion", deletion_jobs.start(user_of(request), rows).pk)
        delete_rows(rows)
        messages.success(request, ngettext("%d was deleted.", "%d were deleted.", count) % count)
        return None


def urls(site: AdminSite) -> list[URLPattern]:
    """The addresses of deletions in the background, of whatever list they are."""
    view = site.admin_view
    return [
        path("deletion/<uuid:pk>/", view(show), name="products_deletion"),
        path("deletion/<uuid:pk>/run/", view(run), name="products_deletion_run"),
        path("deletion/<uuid:pk>/stop/", view(stop), name="products_deletion_stop"),
    ]


@require_safe
def show(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """How far it is, and what has gone; for htmx the progress alone, until it ends."""
    job = _own(request, pk)
    context = {"job": job, "title": _("Deletion")}
    if is_htmx(request):
        if not job.is_active:
            return HttpResponse(headers={"HX-Refresh": "true"})
        return TemplateResponse(request, "catalogmatch/deletion_progress.html", context)
    options = job.model._meta
    context["list"] = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return TemplateResponse(request, "catalogmatch/deletion.html", {**admin.site.each_context(request), **context})


@require_POST
def run(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Go on where it was when the server was stopped."""
    if not deletion_jobs.resume(_own(request, pk)):
        messages.info(request, _("This deletion is at work or done already."))
    return redirect("admin:products_deletion", pk)


@require_POST
def stop(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Leave what is not deleted yet."""
    if not deletion_jobs.stop(_own(request, pk)):
        messages.info(request, _("This deletion was done already."))
    return redirect("admin:products_deletion", pk)


def _own(request: HttpRequest, pk: uuid.UUID) -> Deletion:
    """A deletion of the person who asks, who may still delete; those of others are not there."""
    job = get_object_or_404(Deletion, pk=pk, user=user_of(request))
    if not admin.site.get_model_admin(job.model).has_delete_permission(request):
        raise PermissionDenied
    return job
