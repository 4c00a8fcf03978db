"""Measure the quality of search by queries whose products are known."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from core.spreadsheets.reader import Table
from gpu.images import read_file
from gpu.imaging.errors import ImageProcessingError
from gpu.vectors import Kind
from matching import service
from products.images.cleaning import Upload
from products.models import Product

CUTOFFS = (1, 5, 10)
MAX_RANK = 100  # a product at a lower rank would add less than 0.01 to the reciprocal rank of its query
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RejectedQuery:
    """A query that could not be searched and counts as missed."""

    row: int
    image: str
    code: str
    reason: str


@dataclass(slots=True)
class Evaluation:
    """The results of all queries."""

    ranks: list[int | None] = field(default_factory=list)  # of each true product; None beyond MAX_RANK
    seconds: list[float] = field(default_factory=list)
    rejected: list[RejectedQuery] = field(default_factory=list)
    compared_by: set[str] = field(default_factory=set)

    def figures(self) -> dict[str, object]:
        """Return the report: recall@k and mrr (0 to 1), seconds per query and more.

        Rejected queries count for recall and mrr but not for the seconds. Raises ValueError without queries.
        """
        if not self.ranks:
            raise ValueError("there are no queries to evaluate")
        count = len(self.ranks)
        return {
            "queries": count,
            **{f"recall@{k}": sum(rank is not None and rank <= k for rank in self.ranks) / count for k in CUTOFFS},
            "mrr": sum(1 / rank for rank in self.ranks if rank is not None) / count,
            "seconds_per_query": sum(self.seconds) / len(self.seconds) if self.seconds else None,
            "compared_by": sorted(self.compared_by),
            "refused": [asdict(query) for query in self.rejected],
        }


def evaluate(
    queries: Table,
    folder: Path,
    feature_type: Kind | None = None,
    progress: Callable[[RejectedQuery | None], None] | None = None,
    version: str | None = None,
) -> Evaluation:
    """Search by the ``image`` of each row and find the rank of its ``sku``.

    Relative paths start at ``folder``. A product ranks by its best image. A query counts as missed if its image is bad
    or no catalogue product has its SKU. ``progress`` gets each rejected query, or None. ``version``: see
    ``match_images``.
    Raises FeaturesPendingError if no worker responds, and ClipUnavailableError if ``feature_type`` is CLIP and CLIP is
    not available. Raises SearchVectorError if the stored vectors have another length than the model's.
    """
    evaluation = Evaluation()
    for row in queries.rows:
        cells = {column.lower(): text for column, text in row.cells.items()}
        image, sku = cells.get("image", ""), cells.get("sku", "")
        rejected = None
        try:
            if row.problem:
                rejected = RejectedQuery(row.number, image, "validation_error", row.problem)
            elif not Product.objects.filter(sku=sku, is_historical=True).exclude(sku="").exists():
                rejected = RejectedQuery(row.number, image, "not_found", f"no catalogue product has the SKU {sku!r}")
            else:
                _run_query(evaluation, folder / image.replace("\\", "/"), sku, feature_type, version)
        except ImageProcessingError as error:
            rejected = RejectedQuery(row.number, image, error.code, error.message)
        if rejected is not None:
            evaluation.ranks.append(None)
            evaluation.rejected.append(rejected)
        if progress is not None:
            progress(rejected)
    return evaluation


def _run_query(evaluation: Evaluation, path: Path, sku: str, feature_type: Kind | None, version: str | None) -> None:
    upload = Upload(read_file(path), path.name)
    start = time.perf_counter()
    result = service.match_image(
        upload, threshold=0, limit=MAX_RANK, wait=WAIT_SECONDS, feature_type=feature_type, version=version
    )
    evaluation.seconds.append(time.perf_counter() - start)
    ranks = (candidate.rank for candidate in result.candidates if candidate.product.sku == sku)
    evaluation.ranks.append(next(ranks, None))
    evaluation.compared_by.add(f"{result.feature_type} ({result.model_name})")
