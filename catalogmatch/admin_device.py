"""The device page: what embeds the pictures, how fast, what waits and what failed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from gpu.clip import clip_status
from gpu.device import describe
from gpu.models import EmbeddingWorker
from gpu.status import clip_info, gpu_status
from products import queue, tasks
from products.models import ProductImage

LAST_ERRORS = 10
WORKERS = 20


@require_safe
def device(request: HttpRequest) -> HttpResponse:
    """The page; for htmx the part that changes while work runs."""
    if not request.user.has_perm("gpu.view_embeddingworker"):
        raise PermissionDenied
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "catalogmatch/device_live.html", _live(request))
    context = {
        **admin.site.each_context(request),
        **_live(request),
        "title": _("Device and model"),
        "info": clip_info(),
        "model": clip_status(),
    }
    return TemplateResponse(request, "catalogmatch/device.html", context)


@require_POST
def requeue(request: HttpRequest) -> HttpResponse:
    """Queue the pictures that the posted ``which`` names (missing, failed or all) and wake the workers."""
    if not request.user.has_perm("products.change_productimage"):
        raise PermissionDenied
    try:
        count = queue.requeue(request.POST.get("which", ""))
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    if count:
        tasks.wake()
    text = ngettext("%d picture was queued.", "%d pictures were queued.", count) % count
    messages.success(request, text)
    return redirect("admin:device")


def _live(request: HttpRequest) -> dict[str, Any]:
    failed = ProductImage.objects.filter(state=ProductImage.State.FAILED).select_related("product")
    workers = list(EmbeddingWorker.objects.order_by("-heartbeat_at")[:WORKERS])
    return {
        "device": gpu_status(),
        "queue": queue.status(),
        "workers": workers,
        "reason": next((worker.device_reason for worker in workers if worker.is_live), describe()["reason"]),
        "errors": failed.order_by("-id")[:LAST_ERRORS],
        "may_requeue": request.user.has_perm("products.change_productimage"),
    }
