"""How good the answers are: queries whose products are known, asked the way that programs ask."""

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
MAX_RANK = 100  # ranks looked at: a product further down would add less than 0.01 for its query to the mrr
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RejectedQuery:
    """A query that counts as missed without having been asked."""

    row: int
    image: str
    code: str
    reason: str


@dataclass(slots=True)
class Evaluation:
    """``ranks``: the true product's rank for each query, None where it is not among the first DEPTH."""

    ranks: list[int | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused: list[RejectedQuery] = field(default_factory=list)
    compared_by: set[str] = field(default_factory=set)

    def figures(self) -> dict[str, object]:
        """``queries`` (their number), ``recall@k`` and ``mrr`` (0 to 1) over all of them, ``seconds_per_query``
        over those that were asked, and what they were compared by. Raises ValueError without queries."""
        if not self.ranks:
            raise ValueError("there are no queries to evaluate")
        number = len(self.ranks)
        return {
            "queries": number,
            **{f"recall@{k}": sum(rank is not None and rank <= k for rank in self.ranks) / number for k in CUTOFFS},
            "mrr": sum(1 / rank for rank in self.ranks if rank is not None) / number,
            "seconds_per_query": sum(self.seconds) / len(self.seconds) if self.seconds else None,
            "compared_by": sorted(self.compared_by),
            "refused": [asdict(query) for query in self.refused],
        }


def evaluate(
    queries: Table,
    folder: Path,
    feature_type: Kind | None = None,
    progress: Callable[[RejectedQuery | None], None] | None = None,
) -> Evaluation:
    """Ask for each row's ``image`` (relative to ``folder``, or absolute) and look where its ``sku`` comes.

    A query whose picture is bad, or whose SKU is no historical product's, counts as missed and is reported to
    ``progress`` too. Recall and reciprocal rank are by product: its best view counts. Raises
    FeaturesPendingError when the workers do not answer, ClipUnavailableError when CLIP is asked for and missing,
    and SearchVectorError when the stored vectors are of another length than the model's.
    """
    done = Evaluation()
    for row in queries.rows:
        cells = {column.lower(): text for column, text in row.cells.items()}
        image, sku = cells.get("image", ""), cells.get("sku", "")
        refused = None
        try:
            if row.problem:
                refused = RejectedQuery(row.number, image, "validation_error", row.problem)
            elif not Product.objects.filter(sku=sku, is_historical=True).exclude(sku="").exists():
                refused = RejectedQuery(row.number, image, "not_found", f"no historical product has the SKU {sku!r}")
            else:
                _run_query(done, folder / image.replace("\\", "/"), sku, feature_type)
        except ImageProcessingError as error:
            refused = RejectedQuery(row.number, image, error.code, error.message)
        if refused is not None:
            done.ranks.append(None)
            done.refused.append(refused)
        if progress is not None:
            progress(refused)
    return done


def _run_query(done: Evaluation, path: Path, sku: str, feature_type: Kind | None) -> None:
    upload = Upload(read_file(path), path.name)
    start = time.perf_counter()
    answer = service.match_image(upload, threshold=0, limit=MAX_RANK, wait=WAIT_SECONDS, feature_type=feature_type)
    done.seconds.append(time.perf_counter() - start)
    done.ranks.append(next((found.rank for found in answer.candidates if found.product.sku == sku), None))
    done.compared_by.add(f"{answer.feature_type} ({answer.model_name})")
