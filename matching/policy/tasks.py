"""The Celery task of the policies."""

from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings

from core import circuit_breaker
from matching.policy import applying

logger = logging.getLogger(__name__)

MAX_TASK_SECONDS = 0.3  # a query image waits at most this long


@shared_task(name="matching.policy.tasks.apply_policies")
def apply_policies() -> None:
    """Decide open cases that the policies may decide. With a broker it stops after a moment and sends a message."""
    decided, is_more = applying.apply(MAX_TASK_SECONDS if settings.HAS_BROKER else None)
    if decided:
        logger.info("The policies decided %s cases", decided)
    if is_more:
        notify_workers()


def notify_workers() -> None:
    """Ask a worker to apply the policies soon. Without a broker it is done here."""
    try:
        with circuit_breaker.redis_call():
            apply_policies.delay()
    except circuit_breaker.BrokerUnavailableError as error:
        logger.warning("No worker could be notified, so the policies wait for their schedule: %s", error)
