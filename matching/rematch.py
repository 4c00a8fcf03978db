"""Match any number of products again, by the workers."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from core.database.batches import iter_pk_batches
from matching import tasks
from products.models import Feature, Product


def rematch(products: QuerySet[Product]) -> int:
    """Mark the new products among these as unmatched. Return how many.

    Notifies the workers. Skips products without features. Without workers, `match_products` matches them.
    The sweep finds those whose message was lost.
    """
    count = 0
    embedded = products.filter(Exists(Feature.objects.filter(product=OuterRef("pk"))), is_historical=False)
    for ids in iter_pk_batches(embedded, tasks.MAX_PRODUCTS_PER_TASK):
        count += Product.objects.filter(pk__in=ids).update(unmatched_since=timezone.now())
        if settings.HAS_BROKER:
            tasks.notify_workers(ids)
    return count
