"""Embed all pending images in this process with progress, for the bulk commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.dispatch import Signal

from core.progress import progress_bar
from core.sqlite import statistics
from gpu.monitoring import worker
from products.models import ProductImage
from products.queue.embed import BatchOutcome, embed_pending

# Sent by ``follow_up``, so that receivers update what they derive from features. They return sentences for the
# operator, often call ``check``, which may raise to stop, and may raise FollowUpError.
bulk_embedding_done = Signal()


class FollowUpError(Exception):
    """A step after the embedding failed. The message says which and why."""


@dataclass(slots=True)
class EmbedSummary:
    """How many images became ready, and why others failed, by image id."""

    ready: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def embed_pending_images(check: Callable[[], None], *, recompute: bool = False) -> EmbedSummary:
    """Embed all pending images in this process, beside any workers.

    Send no ``features_stored``. ``recompute`` also computes features that an image already has. ``check`` is called
    after each batch and may raise to stop there.
    """
    summary = EmbedSummary()
    pending = ProductImage.objects.filter(state=ProductImage.State.PENDING).count()
    if not pending:
        return summary
    with worker.registered(), progress_bar(pending, "Embedding", "images") as bar:

        def progress(outcome: BatchOutcome) -> None:
            summary.ready += len(outcome.ready)
            for image in ProductImage.objects.filter(pk__in=outcome.failed):
                summary.failed[image.pk] = f"({image.original_name}): {image.error_code}: {image.error_message}"
            bar.update(outcome.finished)
            check()

        embed_pending(send_signal=False, recompute=recompute, progress=progress)
    statistics.analyze()
    return summary


def follow_up(check: Callable[[], None], *, rebuild_index: bool = False, match: bool = True) -> list[str]:
    """Have the index rebuilt and new products matched. Raises FollowUpError.

    Return sentences for the operator.
    """
    responses: Any = bulk_embedding_done.send(
        sender=ProductImage, check=check, rebuild_index=rebuild_index, match=match
    )
    return [sentence for _receiver, sentences in responses for sentence in sentences]
