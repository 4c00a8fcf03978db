"""The admin's import page: send a table or a ZIP, see what would change, confirm, and see what became of each row."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe

from core.admin.requests import is_htmx, require_permissions, user_of
from core.errors import UnreadableFileError
from core.spreadsheets.headers import suggest_column
from products import import_retention
from products.importing import jobs
from products.importing.importer import RowStatus
from products.importing.rows import COLUMNS, ID_COLUMN, attribute_name, is_note
from products.models import Import

PAGE_SIZE = 50
IMPORT_PERMISSIONS = ("products.add_product", "products.change_product")
KINDS = {
    RowStatus.CREATED: gettext_lazy("new products"),
    RowStatus.UPDATED: gettext_lazy("changed products"),
    RowStatus.IMAGE_ADDED: gettext_lazy("new pictures"),
    RowStatus.SKIPPED: gettext_lazy("unchanged"),
    RowStatus.REJECTED: gettext_lazy("refused"),
}


def urls(site: AdminSite) -> list[URLPattern]:
    """The addresses below the list of products."""
    view = site.admin_view
    return [
        path("import/", view(send), name="products_import"),
        path("import/<uuid:pk>/", view(show), name="products_import_show"),
        path("import/<uuid:pk>/run/", view(run), name="products_import_run"),
        path("import/<uuid:pk>/discard/", view(discard), name="products_import_discard"),
        path("import/<uuid:pk>/refused.csv", view(refused), name="products_import_refused"),
    ]


@csrf_exempt
def send(request: HttpRequest) -> HttpResponseBase:
    """The form. Whoever may import sends a file that goes to disk as it comes, larger than a picture may be."""
    require_permissions(request, *IMPORT_PERMISSIONS)
    # Set before anything reads the body, which is why the token is checked only then.
    request.upload_handlers = [TemporaryFileUploadHandler(request)]
    answer: HttpResponseBase = _send(request)
    return answer


@csrf_protect
def _send(request: HttpRequest) -> HttpResponse:
    error = ""
    if request.method == "POST":
        try:
            historical = "is_historical" in request.POST
            job = jobs.receive(user_of(request), request.FILES.getlist("files"), historical=historical)
        except UnreadableFileError as refusal:
            error = str(refusal)
        else:
            page = reverse("admin:products_import_show", args=[job.pk])
            return HttpResponse(headers={"HX-Redirect": page}) if is_htmx(request) else redirect(page)
    context = {
        "title": _("Import"),
        "error": error,
        "kept": Import.objects.filter(user=user_of(request)),
        "columns": COLUMNS,
        "limit": settings.MAX_REQUEST_BYTES,
    }
    return _page(request, "catalogmatch/import.html", context, status=422 if error else 200)


@require_safe
def show(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """What would be, what is being, or what was done; for htmx the progress alone, until there is more to see."""
    job = _own(request, pk)
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
    """Do what was shown, or go on where it was stopped."""
    job = _own(request, pk)
    if not (jobs.confirm(job) or jobs.resume(job)):
        messages.info(request, _("This import is at work or done already."))
    return redirect("admin:products_import_show", pk)


@require_POST
def discard(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    import_retention.discard(_own(request, pk))
    messages.success(request, _("The file was discarded."))
    return redirect("admin:products_import")


@require_safe
def refused(request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
    """The refused rows as a CSV that can be corrected and sent again."""
    job = _own(request, pk)
    return StreamingHttpResponse(
        jobs.results_of(job).refused_csv(job.columns),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="refused.csv"'},
    )


def _results(request: HttpRequest, job: Import) -> dict[str, Any]:
    log = jobs.results_of(job)
    counted = log.counts()
    counts = {did: counted.get(did.name, 0) for did in KINDS}
    filled = [did for did in (RowStatus.REJECTED, *KINDS) if counts[did]]
    asked = request.GET.get("kind", "")
    kind = RowStatus[asked] if asked in RowStatus.__members__ else next(iter(filled), RowStatus.CREATED)
    pages = max(1, -(-counts[kind] // PAGE_SIZE))
    number = request.GET.get("page", "")
    page = min(int(number), pages) if number.isascii() and number.isdecimal() and 0 < len(number) < 9 else 1
    page = max(page, 1)
    return {
        "kinds": [{"name": did.name, "label": label, "count": counts[did]} for did, label in KINDS.items()],
        "kind": kind.name,
        "rows": log.page(kind, page, PAGE_SIZE),
        "page": page,
        "pages": pages,
        "told": sum(counts.values()),
        "would_do": sum(counts[did] for did in (RowStatus.CREATED, RowStatus.UPDATED, RowStatus.IMAGE_ADDED)),
        "refused": counts[RowStatus.REJECTED],
        "attributes": _attributes(job.columns),
        "notes": [column for column in job.columns if is_note(column) and column != ID_COLUMN],
    }


def _attributes(columns: list[str]) -> list[dict[str, str]]:
    """The columns that become attributes, each with the column that it may have been meant to be."""
    free = set(COLUMNS) - {column.lower() for column in columns}
    named = [(column, attribute_name(column)) for column in columns]
    return [{"name": name, "meant": suggest_column(column, sorted(free))} for column, name in named if name]


def _own(request: HttpRequest, pk: uuid.UUID) -> Import:
    """An import of the person who asks; those of others are not there."""
    require_permissions(request, *IMPORT_PERMISSIONS)
    return get_object_or_404(Import, pk=pk, user=user_of(request))


def _page(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)
