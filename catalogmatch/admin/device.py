"""The page Device and model: what embeds the images, how fast, what waits and what failed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
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
from core.database.ids import parse_ids
from gpu.device import describe_device
from gpu.encoders import selection
from gpu.encoders.registry import clip_status, measured_backends
from gpu.models import EmbeddingWorker, WorkerSample
from gpu.monitoring.status import clip_info, gpu_status
from matching import index
from products.exporting import LARGE_COLUMNS
from products.models import ProductImage
from products.queue import claims
from products.requeue import TOO_MANY_TO_WAIT_FOR, embed_soon

MAX_ERRORS = 10
MAX_WORKERS = 20
CHART_HOURS = 6
CHANGE_QUEUE = "products.change_productimage"


@admin_page("device/", name="device")
@require_safe
def device(request: HttpRequest) -> HttpResponse:
    """Show the page. Return only the part that changes to htmx."""
    require_permissions(request, "gpu.view_embeddingworker")
    if is_htmx(request):
        return TemplateResponse(request, "catalogmatch/device_live.html", _live_context(request))
    source = selection.source_in_use()
    context = {
        **admin.site.each_context(request),
        **_live_context(request),
        "title": _("Device and model"),
        "info": clip_info(),
        "model": clip_status(source),
        "measured": measured_backends(source),
        "decides": settings.CLIP_CONFIG["backend"] == "auto",
    }
    return TemplateResponse(request, "catalogmatch/device.html", context)


@admin_page("device/requeue/", name="device_requeue")
@require_POST
def requeue(request: HttpRequest) -> HttpResponse:
    """Queue the images that the posted ``which`` names: missing, failed or all.

    With a posted ``image``, queue at most that one.
    """
    require_permissions(request, CHANGE_QUEUE)
    image = request.POST.get("image", "")
    ids = parse_ids([image]) if image else None
    if ids == []:
        return HttpResponseBadRequest("image must be an id")
    try:
        count = claims.requeue(request.POST.get("which", ""), image_ids=ids)
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    text = ngettext("%d image was queued.", "%d images were queued.", count) % count
    messages.success(request, text)
    _start_embedding(request, ids)
    return redirect("admin:device")


@admin_page("device/pause/", name="device_pause")
@require_POST
def pause(request: HttpRequest) -> HttpResponse:
    """Pause the queue for all workers (the posted ``paused`` is 1) or resume it (0)."""
    require_permissions(request, CHANGE_QUEUE)
    paused = request.POST.get("paused")
    if paused not in ("0", "1"):
        return HttpResponseBadRequest("paused must be 0 or 1")
    claims.set_paused(paused == "1", user_of(request))
    if paused == "1":
        messages.success(request, _("The queue is paused. Workers finish the images that they are embedding now."))
    else:
        messages.success(request, _("The queue was resumed."))
        _start_embedding(request)
    return redirect("admin:device")


def _start_embedding(request: HttpRequest, ids: list[int] | None = None) -> None:
    """Have these images embedded, or all pending ones. Warn the user if there are too many without workers."""
    images = ProductImage.objects.all() if ids is None else ProductImage.objects.filter(pk__in=ids)
    if not embed_soon(images):
        messages.warning(request, TOO_MANY_TO_WAIT_FOR)


def _live_context(request: HttpRequest) -> dict[str, Any]:
    failed = ProductImage.objects.filter(state=ProductImage.State.FAILED).select_related("product")
    failed = failed.defer(*(f"product__{column}" for column in LARGE_COLUMNS))
    workers = list(EmbeddingWorker.objects.order_by("-heartbeat_at")[:MAX_WORKERS])
    return {
        "device": gpu_status(),
        **queue_state(),
        "workers": workers,
        "charts": _charts(workers),
        "frame": charts.FRAME,
        "hours": CHART_HOURS,
        "index": index.describe(),
        "reason": next((worker.device_reason for worker in workers if worker.is_live), describe_device()["reason"]),
        "errors": failed.order_by("-id")[:MAX_ERRORS],
        "may_requeue": request.user.has_perm(CHANGE_QUEUE),
    }


def _charts(workers: list[EmbeddingWorker]) -> list[dict[str, Any]]:
    """Return the charts of memory and rate. Memory is that of the GPU, or of the process if there is none."""
    until = timezone.now()
    since = until - timedelta(hours=CHART_HOURS)
    samples_by_worker: dict[int, list[WorkerSample]] = {}
    for sample in WorkerSample.objects.filter(taken_at__gte=since, worker__in=workers):
        samples_by_worker.setdefault(sample.worker_id, []).append(sample)

    def chart(key: str, title: str, unit: str, value: Callable[[WorkerSample], float | None]) -> dict[str, Any]:
        series = {
            worker.name: [
                (sample.taken_at, number)
                for sample in samples_by_worker.get(worker.pk, [])
                if (number := value(sample)) is not None
            ]
            for worker in workers
        }
        top = max((number for samples in series.values() for _when, number in samples), default=0.0)
        lines = [charts.line_chart(name, samples, since, until, top) for name, samples in series.items()]
        return {"key": key, "title": title, "unit": unit, "top": top, "lines": [line for line in lines if line]}

    return [
        chart(
            "memory", _("Memory"), _("GB"), lambda s: s.memory_gb if s.vram_reserved_gb is None else s.vram_reserved_gb
        ),
        chart("rate", _("Rate"), _("images/s"), lambda s: s.images_per_second),
    ]
