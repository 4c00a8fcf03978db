"""Follow changes of the catalogue: match new products, keep decisions on deleted ones, maintain the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.signals import post_save
from django.dispatch import receiver

from core.deletion import about_to_delete
from core.history.retention import pruned
from matching import batch, tasks
from matching.answers import calibration
from matching.index import IndexFileError
from matching.index.maintenance import maintenance_due
from matching.models import Match
from matching.review import kept
from products.importing.undo import products_in_use
from products.models import Product, ProductImage, ProductMerge
from products.queue.bulk import FollowUpError, bulk_embedding_done
from products.queue.embed import features_stored


@receiver(features_stored)
def match_new_products(product_ids: Sequence[int], **_: Any) -> None:
    tasks.notify_workers(product_ids)


@receiver(bulk_embedding_done)
def follow_bulk_embedding(check: Callable[[], None], *, rebuild_index: bool, match: bool, **_: Any) -> list[str]:
    """Rebuild the index and match new products. Return what was done, in sentences."""
    sentences = []
    if rebuild_index:
        try:
            built = batch.rebuild_index(check)
        except IndexFileError as error:
            raise FollowUpError(f"The search index was not built: {error}") from error
        sentences += built or ["The catalogue is small enough to be searched without an index file."]
    if match:
        calibration.keep_calibrated()
        sentences.append(f"Matched {batch.match_unmatched(check).matched:,} new products.")
    return sentences


@receiver(products_in_use)
def products_with_verdicts(**_: Any) -> Q:
    """Match the products about which users have decided or noted something, and those with merged ones."""
    decided = Match.objects.exclude(review_status=Match.Status.PENDING, note="")
    merged = Q(pk__in=ProductMerge.objects.values("kept"))
    return Q(pk__in=decided.values("product")) | Q(pk__in=decided.values("candidate")) | merged


@receiver(maintenance_due)
def maintain_index(**_: Any) -> None:
    tasks.notify_index_maintenance()


@receiver(about_to_delete, sender=Product)
def keep_decisions(rows: QuerySet[Product], **_: Any) -> None:
    kept.keep(rows)


@receiver(post_save, sender=Product)
def attach_decisions_by_sku(instance: Product, created: bool, update_fields: Any = None, **_: Any) -> None:
    if created or update_fields is None or "sku" in update_fields:
        kept.attach_by_sku(instance)


@receiver(post_save, sender=ProductImage)
def attach_decisions_by_image(instance: ProductImage, created: bool, **_: Any) -> None:
    if created:
        kept.attach_by_image(instance)


@receiver(pruned)
def forget_deleted_products(until: datetime, **_: Any) -> None:
    kept.forget(until)
