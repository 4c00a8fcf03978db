"""Notify the workers of a new pending image after the commit."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

from products.models import ProductImage
from products.tasks import notify_workers


@receiver(post_save, sender=ProductImage)
def notify_after_commit(instance: ProductImage, **_: Any) -> None:
    if instance.state == ProductImage.State.PENDING:
        transaction.on_commit(partial(notify_workers, [instance.pk]), robust=True)
