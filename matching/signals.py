"""Features that were stored for a new product lead to its matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.dispatch import receiver

from matching import tasks
from matching.index.maintenance import maintenance_due
from products.queue.embed import features_stored


@receiver(features_stored)
def match_new_products(product_ids: Sequence[int], **_: Any) -> None:
    tasks.notify_workers(product_ids)


@receiver(maintenance_due)
def maintain_index(**_: Any) -> None:
    tasks.notify_index_maintenance()
