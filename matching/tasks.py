"""Celery tasks: look up the matches of new products, and keep the search index in shape."""

from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from matching import index, service
from matching.index import BaseFileError
from products.models import Feature, Product
from products.steps import ids_in_steps

logger = logging.getLogger(__name__)

MOST = 200  # products a task, so that nothing waits long behind it; the next sweep takes the rest


@shared_task
def match_unmatched(product_ids: list[int] | None = None) -> None:
    """Match the new products (the named ones, or any) whose features changed since they were last matched."""
    waiting = service.unmatched()
    if product_ids is not None:
        waiting = waiting.filter(pk__in=product_ids)
    service.match_products(list(waiting.values_list("pk", flat=True)[:MOST]))


def match_again(products: QuerySet[Product]) -> int:
    """Have the new ones of these products matched once more, in steps; answers how many have features to be matched by.

    Without workers they are left for `match_products`. What a lost message forgets is found by the sweep.
    """
    count = 0
    embedded = products.filter(Exists(Feature.objects.filter(product=OuterRef("pk"))), is_historical=False)
    for ids in ids_in_steps(embedded, MOST):
        count += Product.objects.filter(pk__in=ids).update(unmatched_since=timezone.now())
        if settings.HAS_BROKER:
            match_unmatched.delay(ids)
    return count


@shared_task
def keep_index() -> None:
    """Build what is due of the search index; nothing most of the time."""
    try:
        for sentence in index.upkeep():
            logger.info("Search index built: %s", sentence)
    except BaseFileError as error:
        logger.warning("The search index was not built, searches are slower: %s", error)
