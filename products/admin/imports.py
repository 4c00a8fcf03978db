"""The import page: upload a table or a ZIP, preview the changes, confirm, and read the result of each row."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import label_for_field
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from core.admin.requests import is_htmx, require_permissions, user_of
from core.database.ids import parse_id
from core.disk import NoRoomError
from core.errors import UnreadableFileError
from core.spreadsheets.reader import POSSIBLE_TABLE_SUFFIXES, TABLE_SUFFIXES
from products import import_retention
from products.admin.upload import MultipleFileInput
from products.downloads import queue, report
from products.downloads.tasks import notify_fetchers
from products.importing import jobs
from products.importing import undo as import_undo
from products.importing.importer import RowStatus
from products.importing.tables.columns import COLUMNS, ID_COLUMN, is_note
from products.importing.tables.mapping import ATTRIBUTE, FIELDS, NONE, NOTHING, presets
from products.models import Import, Product

PAGE_SIZE = 50
IMPORT_PERMISSIONS = ("products.add_product", "products.change_product")
STATUS_LABELS = {
    RowStatus.CREATED: gettext_lazy("new products"),
    RowStatus.UPDATED: gettext_lazy("changed products"),
    RowStatus.IMAGE_ADDED: gettext_lazy("new images"),
    RowStatus.TO_FETCH: gettext_lazy("images to fetch"),
    RowStatus.SKIPPED: gettext_lazy("unchanged"),
    RowStatus.REJECTED: gettext_lazy("refused"),
}
IMPORTED = (RowStatus.CREATED, RowStatus.UPDATED, RowStatus.IMAGE_ADDED, RowStatus.TO_FETCH)


class ImportForm(forms.Form):
    """The field of the page. ``jobs.receive`` checks what was sent."""

    files = forms.FileField(  # type: ignore[assignment]  # Django replaces it by the form's own attribute
        label=gettext_lazy("Table, ZIP with images, or both"),
        help_text=gettext_lazy("You see a preview first. Nothing changes until you confirm it."),
        widget=MultipleFileInput(attrs={"accept": ",".join((*TABLE_SUFFIXES, *POSSIBLE_TABLE_SUFFIXES, ".zip"))}),
    )


def urls(site: AdminSite) -> list[URLPattern]:
    """Return the URLs of imports, which lie below the product list."""
    view = site.admin_view
    return [
        path("import/", view(send), name="products_import"),
        path("import/fetch/", view(fetch_unfetched), name="products_import_fetch_unfetched"),
        path("import/<uuid:pk>/", view(show), name="products_import_show"),
        path("import/<uuid:pk>/run/", view(run), name="products_import_run"),
        path("import/<uuid:pk>/views/", view(group_views), name="products_import_views"),
        path("import/<uuid:pk>/columns/", view(choose_columns), name="products_import_columns"),
        path("import/<uuid:pk>/fetch/", view(fetch_again), name="products_import_fetch"),
        path("import/<uuid:pk>/undo/", view(undo), name="products_import_undo"),
        path("import/<uuid:pk>/discard/", view(discard), name="products_import_discard"),
        path("import/<uuid:pk>/refused.csv", view(rejected_rows), name="products_import_refused"),
    ]


@csrf_exempt
def send(request: HttpRequest) -> HttpResponseBase:
    """Show the form. Stream an uploaded file to disk, since it may be larger than an image."""
    require_permissions(request, *IMPORT_PERMISSIONS)
    # The handlers must be set before anything reads the body, so the CSRF token is checked only afterwards.
    request.upload_handlers = [TemporaryFileUploadHandler(request)]
    response: HttpResponseBase = _send(request)
    return response


@csrf_protect
def _send(request: HttpRequest) -> HttpResponse:
    message, status, unknown = "", 200, None
    if request.method == "POST":
        try:
            historical = "is_historical" in request.POST
            job = jobs.receive(user_of(request), request.FILES.getlist("files"), historical=historical)
        except UnreadableFileError as error:
            message, status = str(error), 422
            unknown = error.job if isinstance(error, jobs.ColumnsUnknownError) else None
        except NoRoomError as error:
            message, status = str(error), 507
        else:
            url = reverse("admin:products_import_show", args=[job.pk])
            return HttpResponse(headers={"HX-Redirect": url}) if is_htmx(request) else redirect(url)
    context = {
        "title": _("Import"),
        "form": ImportForm(),
        "error": message,
        "job_to_choose_for": unknown,
        "recent_imports": Import.objects.filter(user=user_of(request)),
        "unfetched": queue.unfetched_by_commands()[:PAGE_SIZE],
        "unfetched_count": queue.unfetched_by_commands().count(),
        "columns": COLUMNS,
        "max_bytes": settings.MAX_REQUEST_BYTES,
    }
    return _page(request, "catalogmatch/import.html", context, status=status)


@require_safe
def show(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show the preview, the progress or the results. Return only the progress to htmx while the job runs."""
    job = _own_import(request, pk)
    context: dict[str, Any] = {"job": job, "title": _("Import")}
    if job.is_active:
        if is_htmx(request):
            return TemplateResponse(request, "catalogmatch/import_progress.html", context)
    elif is_htmx(request):
        return HttpResponse(headers={"HX-Refresh": "true"})
    else:
        context |= _results(request, job)
    return _page(request, "catalogmatch/import_job.html", context)


@require_POST
def run(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Import what the preview showed, or continue an import that a restart has stopped."""
    job = _own_import(request, pk)
    if not (jobs.confirm(job) or jobs.resume(job)):
        messages.info(request, _("This import is already running or done, or another import of yours is running."))
    return redirect("admin:products_import_show", pk)


@require_POST
def group_views(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Take files as views of products by their names, or each as a product, and show the preview again."""
    jobs.group_views(_own_import(request, pk), "group" in request.POST)
    return redirect("admin:products_import_show", pk)


@require_POST
def choose_columns(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Take the columns of the table as the user chose them, and show the preview again."""
    job = _own_import(request, pk)
    shown = job.recognised.get("columns", [])
    roles = {column["name"]: request.POST.get(f"role-{number}", "") for number, column in enumerate(shown)}
    was_chosen = job.chosen.get("roles", {})
    # Only what differs from what was recognised is a choice, so that a later version may recognise more.
    changed = {column["name"] for column in shown if roles[column["name"]] != column["role"]} | {*was_chosen}
    preset = request.POST.get("preset", "")
    if preset == job.recognised.get("preset", "") and not job.chosen.get("preset"):
        preset = ""
    if not jobs.choose_columns(job, {name: role for name, role in roles.items() if name in changed}, preset):
        messages.info(request, _("This import is already running or done."))
    return redirect("admin:products_import_show", pk)


@require_POST
def fetch_unfetched(request: HttpRequest) -> HttpResponse:
    """Fetch the images again that commands could not fetch, or forget them."""
    require_permissions(request, *IMPORT_PERMISSIONS)
    if "forget" in request.POST:
        queue.unfetched_by_commands().delete()
    else:
        queue.retry(queue.unfetched_by_commands())
        notify_fetchers()
        messages.success(request, _("The images are fetched again."))
    return redirect("admin:products_import")


@require_POST
def fetch_again(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Fetch the images again that could not be fetched."""
    if not jobs.retry_downloads(_own_import(request, pk)):
        messages.info(request, _("There is no image to fetch again, or an import of yours is running."))
    return redirect("admin:products_import_show", pk)


@require_http_methods(["GET", "HEAD", "POST"])
def undo(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show what would be taken back of an import, and take it back once the user confirms."""
    require_permissions(request, "products.delete_product")
    job = _own_import(request, pk)
    if request.method == "POST":
        if not jobs.undo(job):
            messages.info(request, _("This import cannot be taken back now."))
        return redirect("admin:products_import_show", pk)
    if job.state not in (Import.State.DONE, Import.State.FAILED):
        return redirect("admin:products_import_show", pk)
    plan = import_undo.plan(job, PAGE_SIZE)
    context = {"title": _("Take an import back"), "job": job, "plan": plan}
    return _page(request, "catalogmatch/import_undo.html", context)


@require_POST
def discard(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    import_retention.discard(_own_import(request, pk))
    messages.success(request, _("The file was discarded."))
    return redirect("admin:products_import")


@require_safe
def rejected_rows(request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
    """Return the rejected rows as a CSV that can be corrected and imported again."""
    job = _own_import(request, pk)
    return StreamingHttpResponse(
        report.rejected_csv(job),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="refused.csv"'},
    )


def _results(request: HttpRequest, job: Import) -> dict[str, Any]:
    counts_by_name = report.counts(job)
    counts = {status: counts_by_name.get(status.name, 0) for status in STATUS_LABELS}
    first_filled = next((status for status in (RowStatus.REJECTED, *STATUS_LABELS) if counts[status]), None)
    chosen = request.GET.get("kind", "")
    status = RowStatus[chosen] if chosen in RowStatus.__members__ else first_filled or RowStatus.CREATED
    page_count = max(1, -(-counts[status] // PAGE_SIZE))
    page = max(1, min(parse_id(request.GET.get("page", "")) or 1, page_count))
    return {
        "kinds": [{"name": kind.name, "label": label, "count": counts[kind]} for kind, label in STATUS_LABELS.items()],
        "kind": status.name,
        "rows": report.page(job, status, page, PAGE_SIZE),
        "page": page,
        "page_count": page_count,
        "result_count": sum(counts.values()),
        "import_count": sum(counts[kind] for kind in IMPORTED),
        "rejected_count": counts[RowStatus.REJECTED],
        "columns": job.recognised.get("columns", []),
        "can_choose": jobs.can_choose_columns(job),
        "tool": job.recognised.get("tool", ""),
        "table_note": job.recognised.get("note", ""),
        "roles": [{"name": role, "label": _role_label(role)} for role in (*FIELDS, ATTRIBUTE, NOTHING)],
        "presets": [{"name": preset.name, "label": preset.label} for preset in presets().values()],
        "preset": job.chosen.get("preset") or job.recognised.get("preset") or NONE,
        "waiting_count": counts[RowStatus.TO_FETCH],
        "unfetched_count": report.unfetched(job),
        "notes": [column for column in job.columns if is_note(column) and column != ID_COLUMN],
    }


def _role_label(role: str) -> str:
    if role == ATTRIBUTE:
        return _("an attribute")
    if role == NOTHING:
        return _("nothing")
    return _("image") if role == "image" else str(label_for_field(role, Product))


def _own_import(request: HttpRequest, pk: uuid.UUID) -> Import:
    """Return the user's own import, or raise 404."""
    require_permissions(request, *IMPORT_PERMISSIONS)
    return get_object_or_404(Import, pk=pk, user=user_of(request))


def _page(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)
