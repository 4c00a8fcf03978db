"""Rebuild the index and match many products in this process, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.progress import progress_bar
from core.sqlite import statistics
from matching import index, newcomers, service


@dataclass(slots=True)
class MatchSummary:
    """How many products were matched, and the reason for each other one, by id."""

    matched: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def rebuild_index(check: Callable[[], None]) -> list[str]:
    """Rebuild the search index. Return a sentence for each part.

    Raises IndexFileError. Calls ``check`` often; it may raise to stop. The index then stays as it was.
    """
    with progress_bar(None, "Indexing", "vectors") as bar:

        def progress(step: str, done: int, total: int) -> None:
            bar.set_description(f"Indexing ({step})", refresh=False)
            bar.total = total
            bar.update(done - bar.n)
            check()

        return index.rebuild(progress)


def match_products(
    product_ids: Sequence[int],
    check: Callable[[], None],
    threshold: float | None = None,
    limit: int | None = None,
    *,
    as_before: bool = False,
) -> MatchSummary:
    """Match these products and save the matches, on request ``as_before``, see ``match_again``.

    Calls ``check`` after each product; it may raise to stop.
    """
    summary = MatchSummary()
    if not product_ids:
        return summary
    with progress_bar(len(product_ids), "Matching", "products") as bar:

        def progress(product_id: int, reason: str | None) -> None:
            if reason is None:
                summary.matched += 1
            else:
                summary.failed[product_id] = reason
            bar.update()
            check()

        service.match_products(product_ids, threshold, limit, progress, as_before=as_before)
    statistics.analyze()
    return summary


def unmatched_ids(check: Callable[[], None]) -> list[int]:
    """Return the new products whose features changed, or that could be answered by products new in the catalogue."""
    for _block in newcomers.follow():
        check()
    return list(service.unmatched().values_list("pk", flat=True))


def match_unmatched(check: Callable[[], None]) -> MatchSummary:
    """Match the products of ``unmatched_ids``."""
    return match_products(unmatched_ids(check), check, as_before=True)
