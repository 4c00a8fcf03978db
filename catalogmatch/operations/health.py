"""Health checks: whether the process is alive, and whether it can serve requests and the queue is moving."""

from __future__ import annotations

import logging
import shutil
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from core import clock, redis_state
from core.database.schema import SchemaTooOldError, missing_migrations
from core.outages import DATABASE_DAMAGED, outage_of
from products.models import ProductImage
from products.queue import claims

logger = logging.getLogger(__name__)

# With less free space than this, uploads and the database will fail soon.
MIN_FREE_DISK_BYTES = 500 * 2**20

# For each of at most four steps. Monitors often wait for one second only.
REDIS_STEP_SECONDS = 0.2

_is_migrated = False


@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """Return 200 if the process responds."""
    return JsonResponse({"status": "alive"})


@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """Return 200 if requests can be served and the queue is moving, else 503 with the reason.

    Redis alone is no reason for 503, because uploads are accepted without it. It is named as "degraded".
    """
    try:
        reason = schema_problem() or disk_problem() or queue_problem()
    except DatabaseError as error:
        # The error may name hosts and users, so it goes to the log and not into the response.
        logger.exception("The database does not respond")
        is_damaged = outage_of(error) is DATABASE_DAMAGED
        reason = "the database is damaged; run `manage.py doctor`" if is_damaged else "the database does not respond"
    if reason:
        return JsonResponse({"status": "not ready", "reason": reason}, status=503)
    if trouble := redis_problem():
        return JsonResponse({"status": "degraded", "reason": trouble})
    return JsonResponse({"status": "ready"})


def redis_problem() -> str | None:
    """Return what is wrong with Redis, or None. Without a broker nothing is."""
    return redis_state.problem(REDIS_STEP_SECONDS) if settings.HAS_BROKER else None


def schema_problem() -> str | None:
    """Return why the database does not fit this version, or None. Raises DatabaseError."""
    global _is_migrated  # reading the migrations costs more than a query, so once they fit they are not read again
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


def disk_problem() -> str | None:
    """Return why the disk is too full, or None."""
    if shutil.disk_usage(settings.DATA_DIR).free < MIN_FREE_DISK_BYTES:
        return f"less than {MIN_FREE_DISK_BYTES >> 20} MiB are free in the data folder"
    return None


def queue_problem() -> str | None:
    """Return why the queue counts as stalled, or None.

    Progress decides, not processes. The queue is stalled if an image has waited for longer than twice the lease
    and no image became ready or failed in that time. A paused or just resumed queue is not stalled.
    """
    if not settings.HAS_BROKER:
        return None  # the web process embeds uploads itself
    lease = timedelta(seconds=settings.CLAIM_LEASE_SECONDS)
    horizon = timezone.now() - 2 * lease
    waiting = ProductImage.objects.filter(clock.over("updated_at", 2 * lease), state=ProductImage.State.PENDING)
    if not waiting.exists():
        return None
    switch = claims.pause_switch()
    if switch is not None and (switch.paused or switch.changed_at >= horizon):
        return None
    finished = ProductImage.objects.filter(
        clock.within("updated_at", 2 * lease), state__in=[ProductImage.State.READY, ProductImage.State.FAILED]
    )
    if finished.exists():
        return None
    reason = "images wait to be embedded, and no worker has finished any for a while"
    return f"{reason}; {redis_problem() or 'run `manage.py doctor`'}"
