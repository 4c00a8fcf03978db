"""Embedding what a person asked for on a page: by the workers, or while the person waits, where that is little."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from products import tasks
from products.models import ProductImage

INLINE_LIMIT = 50  # pictures that a person waits for where there are no workers

TOO_MANY_TO_WAIT_FOR = _("No worker is running and these are too many images to wait for. Run `manage.py reindex`.")


def embed_soon(pictures: QuerySet[ProductImage]) -> bool:
    """Have those of these pictures that wait embedded; False where they are LEFT to the command."""
    if settings.HAS_BROKER:
        tasks.notify_workers()
        return True
    pending = pictures.filter(state=ProductImage.State.PENDING)
    waiting = list(pending.values_list("pk", flat=True)[: INLINE_LIMIT + 1])
    if len(waiting) > INLINE_LIMIT:
        return False
    if waiting:
        tasks.notify_workers(waiting)
    return True
