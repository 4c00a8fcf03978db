"""Match new products when their features are stored, and maintain the index when it is stale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Q
from django.dispatch import receiver

from matching import batch, tasks
from matching.answers import calibration
from matching.index import IndexFileError
from matching.index.maintenance import maintenance_due
from matching.models import Match
from products.importing.undo import products_in_use
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
    """Match the products about which users have decided or noted something."""
    decided = Match.objects.exclude(review_status=Match.Status.PENDING, note="")
    return Q(pk__in=decided.values("product")) | Q(pk__in=decided.values("candidate"))


@receiver(maintenance_due)
def maintain_index(**_: Any) -> None:
    tasks.notify_index_maintenance()
