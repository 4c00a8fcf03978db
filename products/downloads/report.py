"""The results of an import with those of the images that were fetched for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db.models import Count, QuerySet

from products.importing import jobs
from products.importing.importer import RowStatus
from products.models import ImageDownload, Import

State = ImageDownload.State


def counts(job: Import) -> Counter[str]:
    """Return the number of results by the name of their status. An image counts as what became of it."""
    counted = jobs.results_of(job).counts()
    if jobs.is_preview(job):
        return counted
    counted[RowStatus.TO_FETCH.name] = 0
    grouped = job.downloads.values_list("state", "outcome").annotate(n=Count("pk")).order_by()
    for state, outcome, number in grouped:
        counted[_status_name(state, outcome)] += number
    return counted


def page(job: Import, status: RowStatus, number: int, size: int) -> list[dict[str, Any]]:
    """Return the results with this status on a page: first those of rows, then those of fetched images."""
    results = jobs.results_of(job)
    if jobs.is_preview(job):
        return results.page(status, number, size)
    if status is RowStatus.TO_FETCH:
        rows, of_rows = [], 0
    else:
        rows, of_rows = results.page(status, number, size), results.counts()[status.name]
    first = max(0, (number - 1) * size - of_rows)
    return rows + [_line(download) for download in _downloads(job, status)[first : first + size - len(rows)]]


def unfetched(job: Import) -> int:
    """Return how many images could not be fetched."""
    return job.downloads.filter(state=State.FAILED).count()


def rejected_csv(job: Import) -> Iterator[bytes]:
    """Return the rejected rows and those whose images could not be fetched, as CSV."""

    def failures(keys: Sequence[str]) -> Mapping[str, str]:
        failed = job.downloads.filter(state=State.FAILED, key__in=keys)
        return dict(failed.values_list("key", "error_message"))

    return jobs.results_of(job).rejected_csv(job.columns, failures)


def _status_name(state: str, outcome: str) -> str:
    if state == State.FAILED:
        return RowStatus.REJECTED.name
    return outcome if state == State.DONE else RowStatus.TO_FETCH.name


def _downloads(job: Import, status: RowStatus) -> QuerySet[ImageDownload]:
    downloads = job.downloads.order_by("id")
    match status:
        case RowStatus.REJECTED:
            return downloads.filter(state=State.FAILED)
        case RowStatus.TO_FETCH:
            return downloads.filter(state__in=ImageDownload.UNFINISHED)
        case _:
            return downloads.filter(state=State.DONE, outcome=status.name)


def _line(download: ImageDownload) -> dict[str, Any]:
    """Return a download as a line of results, see ``ResultsWriter``."""
    return {
        "row": download.row_number,
        "label": download.sku,
        "code": download.error_code,
        "reason": download.error_message,
        "changes": [{"name": "image", "old": "", "new": download.address[:300]}],
    }
