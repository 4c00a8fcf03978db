"""Measure the quality of search by queries whose products are known."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from core.spreadsheets.reader import Table, TableRow
from gpu.images import read_file
from gpu.imaging.errors import ImageProcessingError
from gpu.vectors import HEAD, Kind
from matching import service
from matching.answers import figures
from matching.answers.answering import Answer
from products.images.cleaning import Upload
from products.models import Product

CUTOFFS = (1, 5, 10)
MAX_RANK = 100  # a product at a lower rank would add less than 0.01 to the reciprocal rank of its query
WAIT_SECONDS = 60.0
LEFT_OUT_DRAWS = 5
SURE = 0.95  # a probability that should be right in 95 of 100 cases


@dataclass(frozen=True, slots=True)
class RejectedQuery:
    """A query that could not be searched and counts as missed."""

    row: int
    image: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was answered to a query, in one draw of the products that are left out.

    ``is_right``: the most probable candidate is the true product. ``is_known``: it was not left out.
    """

    draw: int
    answer: str
    probability: float
    not_in_catalogue: float
    is_right: bool
    is_known: bool


@dataclass(slots=True)
class Evaluation:
    """The results of all queries."""

    ranks: list[int | None] = field(default_factory=list)  # of each true product; None beyond MAX_RANK
    seconds: list[float] = field(default_factory=list)
    rejected: list[RejectedQuery] = field(default_factory=list)
    compared_by: set[str] = field(default_factory=set)
    outcomes: list[Outcome] = field(default_factory=list)

    def figures(self) -> dict[str, object]:
        """Return the report: recall@k and mrr (0 to 1), seconds per query and more.

        Recalls and mrr are of the whole catalogue, whatever is left out for the answers. The intervals of the answers
        count the queries once, however many draws there are. Without probabilities there are no figures of them.
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
            **self._answer_figures(),
        }

    def _answer_figures(self) -> dict[str, object]:
        if not self.outcomes:
            return {}
        draws = 1 + max(outcome.draw for outcome in self.outcomes)
        probabilities = np.array([outcome.probability for outcome in self.outcomes])
        right = np.array([outcome.is_right for outcome in self.outcomes])
        given = Counter(outcome.answer for outcome in self.outcomes)
        at_98, bound_98 = figures.coverage_at(0.98, probabilities, right, draws)
        at_95, bound_95 = figures.coverage_at(0.95, probabilities, right, draws)
        sure = probabilities >= SURE
        return {
            "ece": figures.expected_calibration_error(probabilities, right),
            "brier": figures.brier_score(probabilities, right),
            "auroc_not_in_catalogue": self._separation(draws),
            "coverage_at_98": at_98,
            "coverage_at_98_lower_bound": bound_98,
            "coverage_at_95": at_95,
            "coverage_at_95_lower_bound": bound_95,
            "sure": {
                "share": float(sure.mean()),
                "right": float(right[sure].mean()) if sure.any() else None,
                "right_lower_bound": figures.wilson_interval(right[sure].sum() / draws, sure.sum() / draws)[0],
            },
            "answers": {str(answer): given[answer] / len(self.outcomes) for answer in Answer},
        }

    def _separation(self, draws: int) -> float | None:
        """Return the mean area under the curve of the draws, None if no product was left out."""
        areas = []
        for draw in range(draws):
            outcomes = [outcome for outcome in self.outcomes if outcome.draw == draw]
            none = np.array([outcome.not_in_catalogue for outcome in outcomes])
            area = figures.area_under_roc(none, np.array([not outcome.is_known for outcome in outcomes]))
            if area is not None:
                areas.append(area)
        return sum(areas) / len(areas) if areas else None


def evaluate(
    queries: Table,
    folder: Path,
    feature_type: Kind | None = None,
    progress: Callable[[RejectedQuery | None], None] | None = None,
    version: str | None = None,
    leave_out: float = 0.0,
) -> Evaluation:
    """Search by the ``image`` of each row and find the rank of its ``sku``.

    Relative paths start at ``folder``. A product ranks by its best image. A query counts as missed if its image is bad
    or no catalogue product has its SKU. ``progress`` gets each rejected query, or None. ``version``: see
    ``match_images``. ``leave_out``: in each of some draws, this share of the queried products counts as not being in
    the catalogue, the same ones each time.
    Raises FeaturesPendingError if no worker responds, and ClipUnavailableError if ``feature_type`` is CLIP and CLIP is
    not available. Raises SearchVectorError if the stored vectors have another length than the model's.
    """
    evaluation = Evaluation()
    rows = list(queries.rows)
    left_out = _choose_left_out(rows, leave_out)
    for row in rows:
        cells = {column.lower(): text for column, text in row.cells.items()}
        image, sku = cells.get("image", ""), cells.get("sku", "")
        rejected = None
        try:
            if row.problem:
                rejected = RejectedQuery(row.number, image, "validation_error", row.problem)
            elif not Product.objects.filter(sku=sku, is_historical=True).exclude(sku="").exists():
                rejected = RejectedQuery(row.number, image, "not_found", f"no catalogue product has the SKU {sku!r}")
            else:
                _run_query(evaluation, folder / image.replace("\\", "/"), sku, feature_type, version, left_out)
        except ImageProcessingError as error:
            rejected = RejectedQuery(row.number, image, error.code, error.message)
        if rejected is not None:
            evaluation.ranks.append(None)
            evaluation.rejected.append(rejected)
        if progress is not None:
            progress(rejected)
    return evaluation


def _choose_left_out(rows: Sequence[TableRow], share: float) -> list[frozenset[int]]:
    """Return the ids of a share of the queried catalogue products, for each draw. The same each time.

    How well "not in the catalogue" is told depends much on which products are left out, hence several draws.
    """
    if not share:
        return [frozenset()]
    skus = {text for row in rows for column, text in row.cells.items() if column.lower() == "sku" and text}
    ids = np.array(sorted(Product.objects.filter(sku__in=skus, is_historical=True).values_list("pk", flat=True)))
    count = round(share * len(ids))
    return [frozenset(np.random.default_rng(draw).permutation(ids)[:count].tolist()) for draw in range(LEFT_OUT_DRAWS)]


def _run_query(
    evaluation: Evaluation,
    path: Path,
    sku: str,
    feature_type: Kind | None,
    version: str | None,
    left_out: Sequence[frozenset[int]],
) -> None:
    upload = Upload(read_file(path), path.name)
    start = time.perf_counter()
    features, used = service.features_of_images([upload], WAIT_SECONDS, version)
    if version is not None and used.head is not None:
        feature_type = HEAD
    result = service.search_features(features, used, 0, MAX_RANK, feature_type=feature_type)
    evaluation.seconds.append(time.perf_counter() - start)
    ranks = (candidate.rank for candidate in result.candidates if candidate.product.sku == sku)
    evaluation.ranks.append(next(ranks, None))
    evaluation.compared_by.add(f"{result.feature_type} ({result.model_name})")
    if result.not_in_catalogue is None:
        return
    product = Product.objects.values_list("pk", flat=True).get(sku=sku, is_historical=True)
    for draw, without in enumerate(left_out):
        answered = (
            service.search_features(features, used, 0, 1, feature_type=feature_type, without=without)
            if without
            else result
        )
        best = answered.candidates[0] if answered.candidates else None
        evaluation.outcomes.append(
            Outcome(
                draw,
                answered.answer,
                (best.probability or 0.0) if best is not None else 0.0,
                answered.not_in_catalogue or 0.0,
                best is not None and best.product.pk == product,
                product not in without,
            )
        )
