"""Matching chosen products once more, however many they are: they count as unmatched again, and the queue does it."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from core.batches import iter_pk_batches
from matching import tasks
from products.models import Feature, Product


def rematch(products: QuerySet[Product]) -> int:
    """Have the new ones of these products matched once more; answers how many have features to be matched by.

    Without workers they are left for `match_products`. What a lost message forgets is found by the sweep.
    """
    count = 0
    embedded = products.filter(Exists(Feature.objects.filter(product=OuterRef("pk"))), is_historical=False)
    for ids in iter_pk_batches(embedded, tasks.MAX_PRODUCTS_PER_TASK):
        count += Product.objects.filter(pk__in=ids).update(unmatched_since=timezone.now())
        if settings.HAS_BROKER:
            tasks.notify_workers(ids)
    return count
