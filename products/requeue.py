"""Embed images that a user queued again: by workers, or here if they are few."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from products import tasks
from products.models import ProductImage

INLINE_LIMIT = 50  # images embedded within the request if there are no workers

TOO_MANY_TO_WAIT_FOR = _("No worker is running and these are too many images to wait for. Run `manage.py reindex`.")


def embed_soon(images: QuerySet[ProductImage]) -> bool:
    """Embed the pending images among these. Return False if they are too many."""
    if settings.HAS_BROKER:
        tasks.notify_workers()
        return True
    pending = images.filter(state=ProductImage.State.PENDING)
    ids = list(pending.values_list("pk", flat=True)[: INLINE_LIMIT + 1])
    if len(ids) > INLINE_LIMIT:
        return False
    if ids:
        tasks.notify_workers(ids)
    return True
