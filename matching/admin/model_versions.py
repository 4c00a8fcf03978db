"""The page Models: every version, what it costs and reaches; learn, compare, switch and roll back."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from core.admin.pages import admin_page
from core.admin.requests import is_htmx, require_permissions, user_of
from gpu.encoders.downloads import DownloadError
from gpu.monitoring.status import throughput
from matching.fine_tuning.trained import list_trained
from matching.learning import model_jobs, versions
from matching.learning.held_out import ComparisonError
from matching.models import ModelJob
from products import model_versions
from products.exporting import LARGE_COLUMNS
from products.model_versions import VersionError
from products.models import Product, ProductImage

VIEW, LEARN, SWITCH = "gpu.view_modelversion", "gpu.add_modelversion", "gpu.add_modelswitch"
MAX_FILLED = 2000  # images whose vectors the request of a switch computes; more take longer than a user waits
RECENT_JOBS = 8
STATES = {
    versions.IN_USE: (gettext_lazy("in use"), "ready"),
    versions.IN_SHADOW: (gettext_lazy("in the shadow"), "pending"),
    versions.KEPT: (gettext_lazy("kept"), ""),
}
KINDS = {"clip": gettext_lazy("encoder"), "legacy": gettext_lazy("legacy features"), "head": gettext_lazy("head")}
MEASURED = {
    "learning": gettext_lazy("when a head was learned"),
    "comparison": gettext_lazy("in a comparison"),
    "measurement": gettext_lazy("when the encoders were measured"),
}
FIGURES = {
    "recall@1": gettext_lazy("right first"),
    "recall@5": gettext_lazy("in the first 5"),
    "recall@10": gettext_lazy("in the first 10"),
    "mrr": gettext_lazy("mean of 1 / rank (MRR)"),
}
SETS = {"views": gettext_lazy("Catalogue images"), "decisions": gettext_lazy("Confirmed matches")}


@admin_page("models/", name="models")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show all versions and the latest jobs."""
    require_permissions(request, VIEW)
    listed = versions.list_versions()
    current, before = versions.current(), model_versions.previous()
    if before is not None:
        before = before or model_versions.ENCODER_NAME
    switchable = versions.by_name(listed)
    context = {
        "title": _("Models"),
        "versions": [
            {
                "is": one,
                "kind": KINDS[one.kind],
                "state": STATES[one.state][0],
                "state_class": STATES[one.state][1],
                "measured": MEASURED.get(one.measured, ""),
                "megabytes": one.bytes / 1e6,
                "may_switch": one.switch_to != "" and switchable.get(current) is not one,
            }
            for one in listed
        ],
        "names": [one.name for one in listed if one.images],
        "current": current,
        "current_name": switchable[current].name if current in switchable else current,
        "before": before if before != current else None,
        "before_name": switchable[before].name if before in switchable else before,
        "throughput": throughput(),
        "trained": list_trained(),
        "jobs": ModelJob.objects.exclude(kind=ModelJob.Kind.DUPLICATES).select_related("user")[:RECENT_JOBS],
        "may_learn": request.user.has_perm(LEARN),
        "may_switch": request.user.has_perm(SWITCH),
    }
    return _page(request, "catalogmatch/models.html", context)


@admin_page("models/train/", name="models_train")
@require_POST
def train(request: HttpRequest) -> HttpResponse:
    """Start to learn a head."""
    require_permissions(request, LEARN)
    try:
        return redirect("admin:models_job", model_jobs.start_training(user_of(request)).pk)
    except model_jobs.BusyError as busy:
        return _busy(request, busy)


@admin_page("models/compare/", name="models_compare")
@require_POST
def compare(request: HttpRequest) -> HttpResponse:
    """Start to compare the posted versions ``a`` and ``b``."""
    require_permissions(request, LEARN)
    try:
        job = model_jobs.start_comparison(user_of(request), request.POST.get("a", ""), request.POST.get("b", ""))
    except (VersionError, ComparisonError) as error:
        messages.error(request, str(error))
        return redirect("admin:models")
    except model_jobs.BusyError as busy:
        return _busy(request, busy)
    return redirect("admin:models_job", job.pk)


@admin_page("models/download/", name="models_download")
@require_POST
def download(request: HttpRequest) -> HttpResponse:
    """Start to download the posted model from the hub."""
    require_permissions(request, LEARN)
    try:
        job = model_jobs.start_download(user_of(request), request.POST.get("name", ""))
    except DownloadError as error:
        messages.error(request, str(error))
        return redirect("admin:models")
    except model_jobs.BusyError as busy:
        return _busy(request, busy)
    return redirect("admin:models_job", job.pk)


@admin_page("models/measure/", name="models_measure")
@require_POST
def measure(request: HttpRequest) -> HttpResponse:
    """Start to measure the encoders."""
    require_permissions(request, LEARN)
    try:
        return redirect("admin:models_job", model_jobs.start_measurement(user_of(request)).pk)
    except model_jobs.BusyError as busy:
        return _busy(request, busy)


@admin_page("models/switch/", name="models_switch")
@require_http_methods(["GET", "HEAD", "POST"])
def switch(request: HttpRequest) -> HttpResponse:
    """Show what a switch to ``version`` would change. Do it if that is posted and nothing has changed since."""
    require_permissions(request, SWITCH)
    given = request.POST if request.method == "POST" else request.GET
    try:
        planned = versions.preview(given.get("version", ""))
        if request.method == "POST" and _is_confirmed(request, planned):
            versions.switch(planned.target, user_of(request))
            text = _("%(version)s answers now. %(count)d new products are searched again.")
            messages.success(request, text % {"version": planned.target, "count": planned.products_to_match})
            return redirect("admin:models")
    except VersionError as error:
        messages.error(request, str(error))
        return redirect("admin:models")
    listed = versions.by_name(versions.list_versions())
    context = {
        "title": _("Roll back?") if planned.is_rollback else _("Switch?"),
        "planned": planned,
        "sides": [listed.get(planned.current), listed.get(planned.target)],
        "names": [listed[name].name if name in listed else name for name in (planned.current, planned.target)],
        "is_too_much": planned.lacking > MAX_FILLED,
    }
    return _page(request, "catalogmatch/model_switch.html", context)


@admin_page("models/jobs/<uuid:pk>/", name="models_job")
@require_safe
def show_job(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show a job's progress or result. Return only the progress to htmx, and reload the page when it has ended."""
    job = _job(request, pk)
    context: dict[str, Any] = {"title": job.get_kind_display(), "job": job}
    if is_htmx(request):
        if not job.is_active:
            return HttpResponse(headers={"HX-Refresh": "true"})
        return TemplateResponse(request, "catalogmatch/model_progress.html", context)
    if job.state == ModelJob.State.DONE:
        shown = {ModelJob.Kind.COMPARE: _comparison, ModelJob.Kind.TRAIN: _learned}
        context |= shown.get(ModelJob.Kind(job.kind), lambda done: {"report": done.report})(job)
    return _page(request, "catalogmatch/model_job.html", context)


@admin_page("models/jobs/<uuid:pk>/run/", name="models_job_run")
@require_POST
def run_job(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Start a job again that a restart of the server has stopped."""
    if not model_jobs.resume(_job(request, pk, LEARN)):
        messages.info(request, _("This job is already running or done."))
    return redirect("admin:models_job", pk)


@admin_page("models/jobs/<uuid:pk>/stop/", name="models_job_stop")
@require_POST
def stop_job(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Stop a job."""
    if not model_jobs.stop(_job(request, pk, LEARN)):
        messages.info(request, _("This job is already done."))
    return redirect("admin:models_job", pk)


def _is_confirmed(request: HttpRequest, planned: versions.SwitchPreview) -> bool:
    if planned.lacking > MAX_FILLED:
        return False
    if request.POST.get("current") != planned.current:
        messages.warning(request, _("Another version answers since you opened this page. Nothing was changed."))
        return False
    return True


def _busy(request: HttpRequest, busy: model_jobs.BusyError) -> HttpResponse:
    messages.warning(request, _("Another job runs: %s. Wait until it is done, or stop it.") % busy)
    return redirect("admin:models_job", busy.job.pk)


def _job(request: HttpRequest, pk: uuid.UUID, permission: str = VIEW) -> ModelJob:
    require_permissions(request, permission)
    return get_object_or_404(ModelJob, pk=pk)


def _learned(job: ModelJob) -> dict[str, Any]:
    """Return the figures of a learned head as rows of a table."""
    report = job.report
    figures = [(FIGURES.get(name, name), report["before"][name], report["after"][name]) for name in report["after"]]
    return {"report": report, "figures": figures, "made_of": " + ".join(report["made_of"])}


def _comparison(job: ModelJob) -> dict[str, Any]:
    """Return both versions' figures as rows, and the images of the pairs."""
    report = job.report
    pairs = [pair for one in report["sets"] for key in ("gained_pairs", "lost_pairs") for pair in one[key]]
    ids = {pair[key] for pair in pairs for key in ("image", "right_image", "found_image")}
    large = (f"product__{column}" for column in LARGE_COLUMNS)
    images = ProductImage.objects.select_related("product").defer(*large).in_bulk(list(ids - {None}))
    products = Product.objects.defer(*LARGE_COLUMNS).in_bulk([pair["product"] for pair in pairs])

    def shown(pair: dict[str, Any]) -> dict[str, Any] | None:
        found = {key: images.get(pair[f"{key}image"]) for key in ("", "right_", "found_")}
        if None in found.values():  # deleted since
            return None
        return {"query": found[""], "right": found["right_"], "found": found["found_"], **pair} | {
            "product": products.get(pair["product"])
        }

    sets = [
        {
            **one,
            "title": SETS.get(one["name"], one["name"]),
            "rows": [
                (FIGURES.get(name, name), one["a"][name], one["b"][name], difference)
                for name, difference in one["difference"].items()
            ],
            "better_name": report.get(one["better"], ""),
            "groups": [
                (title, _("Only %s finds these first.") % report[side], _pairs(one[f"{key}_pairs"], shown), one[key])
                for key, side, title in (("gained", "b", _("Gained")), ("lost", "a", _("Lost")))
            ],
        }
        for one in report["sets"]
    ]
    return {"report": report, "sets": sets, "costs": [(report[side], report["cost"][side]) for side in "ab"]}


def _pairs(pairs: list[dict[str, Any]], shown: Any) -> list[dict[str, Any]]:
    return [found for found in map(shown, pairs) if found is not None]


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
