"""Is the process alive, and is the work getting done."""

from __future__ import annotations

import logging
import shutil
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from core.schema import SchemaTooOldError, missing_migrations
from products.models import ProductImage
from products.queue import claims

logger = logging.getLogger(__name__)

# With less free space than this, uploads and the database itself are about to fail.
MIN_FREE_DISK_BYTES = 500 * 2**20

_is_migrated = False


@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "alive"})


@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """200 when requests can be served and the queue moves; 503 with the reason otherwise."""
    try:
        reason = unmigrated() or full_disk() or stalled_queue()
    except DatabaseError:
        logger.exception("The database does not answer")  # its words may name hosts and users: not for everybody
        reason = "the database does not answer"
    if reason:
        return JsonResponse({"status": "not ready", "reason": reason}, status=503)
    return JsonResponse({"status": "ready"})


def unmigrated() -> str | None:
    """Why the database does not fit the program; looked at until it does, since that costs more than a query."""
    global _is_migrated
    if not _is_migrated:
        try:
            missing = missing_migrations()
        except SchemaTooOldError as error:
            return str(error)
        if missing:
            return f"{len(missing)} migrations are missing; run `manage.py migrate`"
        _is_migrated = True
    ProductImage.objects.exists()
    return None


def full_disk() -> str | None:
    """Why nothing more can be stored; None while there is room."""
    if shutil.disk_usage(settings.DATA_DIR).free < MIN_FREE_DISK_BYTES:
        return f"less than {MIN_FREE_DISK_BYTES >> 20} MiB are free for the data"
    return None


def stalled_queue() -> str | None:
    """Why the queue counts as stalled, None when it moves.

    Looks at progress, not at processes: pictures wait, the oldest longer than twice the lease, and nothing
    became ready or failed in that time. A queue that somebody paused, or resumed since, is not stalled.
    """
    if not settings.HAS_BROKER:
        return None  # whoever uploads also embeds; nobody else could be stuck
    horizon = timezone.now() - timedelta(seconds=2 * settings.CLAIM_LEASE_SECONDS)
    waiting = ProductImage.objects.filter(state=ProductImage.State.PENDING, updated_at__lt=horizon)
    if not waiting.exists():
        return None
    switch = claims.pause_switch()
    if switch is not None and (switch.paused or switch.changed_at >= horizon):
        return None
    finished = ProductImage.objects.filter(
        state__in=[ProductImage.State.READY, ProductImage.State.FAILED], updated_at__gte=horizon
    )
    if finished.exists():
        return None
    return "pictures wait to be embedded and no worker has finished any for a while; see `manage.py doctor`"
