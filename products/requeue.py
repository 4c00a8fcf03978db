"""Embedding what a person asked for on a page: by the workers, or while the person waits, where that is little."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from products import tasks
from products.models import ProductImage

HERE = 50  # pictures that a person waits for where there are no workers

LEFT = _("There are no workers, and these are too many pictures to wait for: `manage.py reindex` embeds them.")


def embed_soon(pictures: QuerySet[ProductImage]) -> bool:
    """Have those of these pictures that wait embedded; False where they are LEFT to the command."""
    if settings.HAS_BROKER:
        tasks.wake()
        return True
    pending = pictures.filter(state=ProductImage.State.PENDING)
    waiting = list(pending.values_list("pk", flat=True)[: HERE + 1])
    if len(waiting) > HERE:
        return False
    if waiting:
        tasks.wake(waiting)
    return True
