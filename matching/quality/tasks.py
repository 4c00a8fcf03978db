"""The Celery task of the nightly self-audit."""

from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings

from core import circuit_breaker
from gpu.monitoring import worker
from matching.quality import self_audit
from matching.quality.switch import NIGHTLY
from products import preferences

logger = logging.getLogger(__name__)

MAX_TASK_SECONDS = 0.3  # a query image waits at most for one planted image longer


@shared_task(name="matching.quality.tasks.audit_nightly")
def audit_nightly() -> None:
    """Go on with the self-audit of this night for a moment, and send a message for the rest."""
    if not preferences.value(NIGHTLY):
        return
    with worker.watchdog(settings.CLAIM_LEASE_SECONDS):
        is_done = self_audit.go_on(MAX_TASK_SECONDS)
    if is_done:
        return
    try:
        with circuit_breaker.redis_call():
            audit_nightly.delay()
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be notified, so the self-audit waits for its schedule: %s", error)
