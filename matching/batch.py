"""Embed what waits and match what is new in this process, with progress: how the bulk commands end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.progress import progress_bar
from core.sqlite import statistics
from gpu.monitoring import worker
from matching import index, service
from matching.service import DEFAULT_LIMIT, DEFAULT_THRESHOLD
from products.models import ProductImage
from products.queue import embed
from products.queue.embed import BatchOutcome


@dataclass(slots=True)
class EmbedSummary:
    """How many pictures became ready, and why others were given up, by id."""

    ready: int = 0
    failed: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class MatchSummary:
    """How many products were matched, and why others were not, by id."""

    matched: int = 0
    refused: dict[int, str] = field(default_factory=dict)


def embed_pending_images(check: Callable[[], None], *, recompute: bool = False) -> EmbedSummary:
    """Embed all pending pictures here, beside any workers and announced like them; matches are left to ``match``.

    ``afresh`` computes also the features that a picture has already. ``check`` is called between batches and
    may raise to stop there.
    """
    done = EmbedSummary()
    pending = ProductImage.objects.filter(state=ProductImage.State.PENDING).count()
    if not pending:
        return done
    with worker.registered(), progress_bar(pending, "Embedding", "pictures") as bar:

        def progress(outcome: BatchOutcome) -> None:
            done.ready += len(outcome.ready)
            for image in ProductImage.objects.filter(pk__in=outcome.failed):
                done.failed[image.pk] = f"({image.original_name}): {image.error_code}: {image.error_message}"
            bar.update(outcome.finished)
            check()

        embed.embed_pending(send_signal=False, recompute=recompute, progress=progress)
    statistics.analyze()
    return done


def rebuild_index(check: Callable[[], None]) -> list[str]:
    """Build the search index anew; a sentence for each part that was built. Raises matching.index.BaseFileError.

    ``check`` is called along the way and may raise to stop; then the index stays as it was.
    """
    with progress_bar(None, "Indexing", "vectors") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.set_description(f"Indexing ({what})", refresh=False)
            bar.total = total
            bar.update(done - bar.n)
            check()

        return index.rebuild(progress)


def match_products(
    product_ids: Sequence[int],
    check: Callable[[], None],
    threshold: float = DEFAULT_THRESHOLD,
    limit: int = DEFAULT_LIMIT,
) -> MatchSummary:
    """Match these products and save the answers; ``check`` is called after each and may raise to stop there."""
    done = MatchSummary()
    if not product_ids:
        return done
    with progress_bar(len(product_ids), "Matching", "products") as bar:

        def progress(product_id: int, reason: str | None) -> None:
            if reason is None:
                done.matched += 1
            else:
                done.refused[product_id] = reason
            bar.update()
            check()

        service.match_products(product_ids, threshold, limit, progress)
    statistics.analyze()
    return done


def match_unmatched(check: Callable[[], None]) -> MatchSummary:
    """Match the new products whose features changed since they were last matched."""
    return match_products(list(service.unmatched().values_list("pk", flat=True)), check)
