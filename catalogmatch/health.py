"""Is the process alive, and is the work getting done."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from products.models import ProductImage


@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "alive"})


@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """200 when the database answers and the queue moves; 503 with the reason otherwise."""
    try:
        ProductImage.objects.exists()  # also tells of a database that was never migrated
        reason = stalled_queue()
    except DatabaseError as error:
        reason = f"the database does not answer: {error}"
    if reason:
        return JsonResponse({"status": "not ready", "reason": reason}, status=503)
    return JsonResponse({"status": "ready"})


def stalled_queue() -> str | None:
    """Why the queue counts as stalled, None when it moves.

    Looks at progress, not at processes: pictures wait, the oldest longer than twice the lease, and nothing
    became ready or failed in that time.
    """
    if not settings.HAS_BROKER:
        return None  # whoever uploads also embeds; nobody else could be stuck
    horizon = timezone.now() - timedelta(seconds=2 * settings.CLAIM_LEASE_SECONDS)
    waiting = ProductImage.objects.filter(state=ProductImage.State.PENDING, updated_at__lt=horizon)
    if not waiting.exists():
        return None
    finished = ProductImage.objects.filter(
        state__in=[ProductImage.State.READY, ProductImage.State.FAILED], updated_at__gte=horizon
    )
    if finished.exists():
        return None
    return "pictures wait to be embedded and no worker has finished any for a while; see `manage.py doctor`"
