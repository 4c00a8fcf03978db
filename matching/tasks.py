"""Celery task: look up the matches of new products as soon as their features are there."""

from __future__ import annotations

from celery import shared_task

from matching import service

MOST = 200  # products a task, so that nothing waits long behind it; the next sweep takes the rest


@shared_task
def match_unmatched(product_ids: list[int] | None = None) -> None:
    """Match the new products (the named ones, or any) whose features changed since they were last matched."""
    waiting = service.unmatched()
    if product_ids is not None:
        waiting = waiting.filter(pk__in=product_ids)
    service.match_products(list(waiting.values_list("pk", flat=True)[:MOST]))
