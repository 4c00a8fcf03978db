"""The device page: what embeds the pictures, how fast, what waits and what failed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from catalogmatch.admin import charts
from catalogmatch.admin.home import queue_state
from core.admin.pages import admin_page
from core.admin.requests import is_htmx, require_permissions, user_of
from gpu.device import describe_device
from gpu.encoders.registry import clip_status
from gpu.models import EmbeddingWorker, WorkerSample
from gpu.monitoring.status import clip_info, gpu_status
from matching import index
from products import requeue as again
from products.models import ProductImage
from products.queue import claims

MAX_ERRORS = 10
MAX_WORKERS = 20
CHART_HOURS = 6  # that the curves show
CHANGE_QUEUE = "products.change_productimage"


@admin_page("device/", name="device")
@require_safe
def device(request: HttpRequest) -> HttpResponse:
    """The page; for htmx the part that changes while work runs."""
    require_permissions(request, "gpu.view_embeddingworker")
    if is_htmx(request):
        return TemplateResponse(request, "catalogmatch/device_live.html", _live(request))
    context = {
        **admin.site.each_context(request),
        **_live(request),
        "title": _("Device and model"),
        "info": clip_info(),
        "model": clip_status(),
    }
    return TemplateResponse(request, "catalogmatch/device.html", context)


@admin_page("device/requeue/", name="device_requeue")
@require_POST
def requeue(request: HttpRequest) -> HttpResponse:
    """Queue the pictures that the posted ``which`` names (missing, failed or all) and wake the workers.

    A posted ``image`` narrows that down to this one picture.
    """
    require_permissions(request, CHANGE_QUEUE)
    image = request.POST.get("image", "")
    try:
        ids = [int(image)] if image else None
        count = claims.requeue(request.POST.get("which", ""), image_ids=ids)
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    text = ngettext("%d picture was queued.", "%d pictures were queued.", count) % count
    messages.success(request, text)
    _embed(request, ids)
    return redirect("admin:device")


@admin_page("device/pause/", name="device_pause")
@require_POST
def pause(request: HttpRequest) -> HttpResponse:
    """Pause the queue for all workers, or resume it: the posted ``paused`` is 1 or 0."""
    require_permissions(request, CHANGE_QUEUE)
    paused = request.POST.get("paused")
    if paused not in ("0", "1"):
        return HttpResponseBadRequest("paused must be 0 or 1")
    claims.set_paused(paused == "1", user_of(request))
    if paused == "1":
        messages.success(request, _("The queue is paused. What is being embedded now is finished."))
    else:
        messages.success(request, _("The queue goes on."))
        _embed(request)
    return redirect("admin:device")


def _embed(request: HttpRequest, ids: list[int] | None = None) -> None:
    """Have these pictures, or all that wait, embedded; says so where nobody does it."""
    pictures = ProductImage.objects.all() if ids is None else ProductImage.objects.filter(pk__in=ids)
    if not again.embed_soon(pictures):
        messages.warning(request, again.TOO_MANY_TO_WAIT_FOR)


def _live(request: HttpRequest) -> dict[str, Any]:
    failed = ProductImage.objects.filter(state=ProductImage.State.FAILED).select_related("product")
    workers = list(EmbeddingWorker.objects.order_by("-heartbeat_at")[:MAX_WORKERS])
    return {
        "device": gpu_status(),
        **queue_state(),
        "workers": workers,
        "curves": _curves(workers),
        "hours": CHART_HOURS,
        "index": index.describe(),
        "reason": next((worker.device_reason for worker in workers if worker.is_live), describe_device()["reason"]),
        "errors": failed.order_by("-id")[:MAX_ERRORS],
        "may_requeue": request.user.has_perm(CHANGE_QUEUE),
    }


def _curves(workers: list[EmbeddingWorker]) -> list[dict[str, Any]]:
    """Memory and rate of the workers over the last hours; memory of the GPU where there is one, else of the process."""
    until = timezone.now()
    since = until - timedelta(hours=CHART_HOURS)
    of_worker: dict[int, list[WorkerSample]] = {}
    for sample in WorkerSample.objects.filter(taken_at__gte=since, worker__in=workers):
        of_worker.setdefault(sample.worker_id, []).append(sample)

    def curve(key: str, title: str, unit: str, value: Callable[[WorkerSample], float | None]) -> dict[str, Any]:
        series = {
            worker.name: [
                (s.taken_at, number) for s in of_worker.get(worker.pk, []) if (number := value(s)) is not None
            ]
            for worker in workers
        }
        top = max((number for samples in series.values() for _when, number in samples), default=0.0)
        drawn = [charts.line_plot(name, samples, since, until, top) for name, samples in series.items()]
        return {"key": key, "title": title, "unit": unit, "top": top, "lines": [line for line in drawn if line]}

    return [
        curve(
            "memory", _("Memory"), _("GB"), lambda s: s.memory_gb if s.vram_reserved_gb is None else s.vram_reserved_gb
        ),
        curve("rate", _("Rate"), _("pictures/s"), lambda s: s.images_per_second),
    ]
