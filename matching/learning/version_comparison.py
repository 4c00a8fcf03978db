"""Compare two versions: recall with intervals, pairs gained and lost, scores and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.spreadsheets.reader import Table, TableRow
from gpu.images import read_file
from gpu.imaging.errors import ImageProcessingError
from gpu.search_vectors import search_vector
from gpu.vectors import LEGACY, stored_bytes
from matching import index, service
from matching.evaluation import CUTOFFS, MAX_RANK, WAIT_SECONDS
from matching.index import Filters
from matching.learning.held_out import Compared, ComparisonError, Outcomes, QuerySet, resolve, search_both
from matching.learning.intervals import paired_bootstrap, wilson
from matching.preferences import default_threshold
from products.images.cleaning import Upload
from products.model_versions import ENCODER_NAME
from products.models import Feature, Product

MAX_PAIRS = 24  # gained pairs, and lost ones, that a report names
TIMED_QUERIES = 40
_NOT_FOUND = 10**6  # the rank of a product that was not among the first MAX_RANK

Progress = Callable[[int], object]
Report = dict[str, Any]
Seconds = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Queries:
    """A table with the columns image and sku. Relative paths start at ``folder``."""

    table: Table
    folder: Path


def compare_versions(a: str, b: str, queries: Queries | None = None, progress: Progress = lambda _: None) -> Report:
    """Return how version ``b`` differs from ``a``: recalls, pairs, scores and cost.

    Without ``queries`` both search in catalogue images and in those of confirmed matches, and heads are learned again
    without the products that are searched. With them, both search in the whole catalogue as they are.
    Calls ``progress(products read)``, or ``progress(1)`` after each query. docs/commands.md describes the report.
    Raises VersionError for a version that cannot be used so, ComparisonError, and what ``match_image`` raises.
    """
    first, second = resolve(a), resolve(b)
    if first.name == second.name:
        raise ComparisonError(f"{a} and {b} are the same version.")
    refused: list[dict[str, object]] = []
    if queries is None:
        sets, seconds = search_both(first, second, progress), _search_seconds(first, second)
    else:
        searched = _Searched(first, second)
        searched.run(queries, progress)
        sets, seconds, refused = [searched.query_set()], searched.seconds(), searched.refused
    cost = {
        side: {
            "dimensions": version.dim, "bytes_per_vector": stored_bytes(version.kind, version.dim),
            "ms_per_query": round(1000 * taken, 2) if taken is not None else None,
        }
        for side, version, taken in zip("ab", (first, second), seconds, strict=True)
    }  # fmt: skip
    return {
        "a": first.name, "b": second.name, "sets": [_report(one) for one in sets], "cost": cost, "refused": refused,
    }  # fmt: skip


def _report(one: QuerySet) -> Report:
    sides = {"a": one.a, "b": one.b}
    hits = {side: {f"recall@{k}": outcomes.ranks <= k for k in CUTOFFS} for side, outcomes in sides.items()}
    difference = {}
    for name in hits["a"]:
        gains = hits["b"][name].astype(np.float64) - hits["a"][name]
        difference[name] = _estimate(float(gains.mean()), paired_bootstrap(gains, one.products))
    first_a, first_b = hits["a"]["recall@1"], hits["b"]["recall@1"]
    gained, lost = np.flatnonzero(first_b & ~first_a), np.flatnonzero(first_a & ~first_b)
    low, high = difference["recall@1"]["low"], difference["recall@1"]["high"]
    return {
        "name": one.name,
        "queries": len(one.products),
        "products": len(np.unique(one.products)),
        "gallery_products": one.gallery_products,
        **{
            side: {name: _estimate(float(hit.mean()), wilson(int(hit.sum()), len(hit))) for name, hit in own.items()}
            for side, own in hits.items()
        },
        "difference": difference,
        "better": "b" if low > 0 else "a" if high < 0 else "",
        "scores": _scores(one),
        "gained": len(gained),
        "lost": len(lost),
        "gained_pairs": list(_pairs(one, gained, one.a)),
        "lost_pairs": list(_pairs(one, lost, one.b)),
    }


def _estimate(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": round(value, 4), "low": round(interval[0], 4), "high": round(interval[1], 4)}


def _scores(one: QuerySet) -> Report:
    """Return the median score of the right product with both, and the share that reaches the default threshold."""
    found = np.isfinite(one.a.scores) & np.isfinite(one.b.scores)
    if not found.any():
        return {"a": None, "b": None, "shift": None, "a_above_threshold": None, "b_above_threshold": None}
    threshold = default_threshold()
    a, b = one.a.scores[found], one.b.scores[found]
    return {
        "a": round(float(np.median(a)), 1),
        "b": round(float(np.median(b)), 1),
        "shift": round(float(np.median(b - a)), 1),
        "a_above_threshold": round(float((a >= threshold).mean()), 4),
        "b_above_threshold": round(float((b >= threshold).mean()), 4),
    }


def _pairs(one: QuerySet, rows: npt.NDArray[np.int64], wrong: Outcomes) -> Iterator[Report]:
    """Yield at most MAX_PAIRS queries, of different products first, with what the version that missed found first."""
    _, first_of_product = np.unique(one.products[rows], return_index=True)
    ordered = [*first_of_product, *np.setdiff1d(np.arange(len(rows)), first_of_product)]
    for row in rows[ordered[:MAX_PAIRS]] if len(rows) else []:
        right = one.b.right[row] if one.b.right[row] else one.a.right[row]
        yield {
            "image": int(one.images[row]) if len(one.images) else None,
            "file": one.files[row] if one.files else "",
            "product": int(one.products[row]),
            "right_image": int(right) or None,
            "found_image": int(wrong.found[row]) or None,
            "rank_a": _rank(one.a.ranks[row]),
            "rank_b": _rank(one.b.ranks[row]),
        }


def _rank(rank: np.int64) -> int | None:
    return int(rank) if rank < _NOT_FOUND else None


def _search_seconds(a: Compared, b: Compared) -> Seconds:
    """Return the median seconds of a search in the catalogue by stored vectors, without computing them."""
    taken: dict[str, list[float]] = {a.name: [], b.name: []}
    rows = {
        version.name: Feature.objects.filter(kind=version.kind, model_name=version.name, product__is_historical=True)
        .order_by("image_id")[: TIMED_QUERIES + 1]
        for version in (a, b)
    }  # fmt: skip
    vectors = {
        name: [search_vector(row.to_features()) for row in found if not row.is_damaged] for name, found in rows.items()
    }
    for number in range(min(map(len, vectors.values()))):
        for version in (a, b) if number % 2 else (b, a):
            start = time.perf_counter()
            index.search(
                vectors[version.name][number][None], 10, kind=version.kind, model=version.name,
                filters=Filters(historical=True), score_floor=version.floor,
            )  # fmt: skip
            if number:  # the first one loads the index
                taken[version.name].append(time.perf_counter() - start)
    return _median(taken[a.name]), _median(taken[b.name])


def _median(seconds: Sequence[float]) -> float | None:
    return float(np.median(seconds)) if seconds else None


@dataclass(slots=True)
class _Searched:
    """What both versions found for the rows of a table."""

    a: Compared
    b: Compared
    rows: list[tuple[str, int]] = field(default_factory=list)  # file, and id of the right product
    found: dict[str, list[tuple[int, float, int, int]]] = field(default_factory=dict)  # as in Outcomes
    taken: dict[str, list[float]] = field(default_factory=dict)
    refused: list[dict[str, object]] = field(default_factory=list)

    def run(self, queries: Queries, progress: Progress) -> None:
        for version in (self.a, self.b):
            self.found[version.name], self.taken[version.name] = [], []
        for row in queries.table.rows:
            try:
                self._search(row, queries.folder)
            except ImageProcessingError as error:
                self._refuse(row, error.message)
            progress(1)
        if not self.rows:
            raise ComparisonError("No query could be searched. See the reasons of the rows.")

    def _search(self, row: TableRow, folder: Path) -> None:
        cells = {column.lower(): text for column, text in row.cells.items()}
        name, sku = cells.get("image", ""), cells.get("sku", "")
        products = Product.objects.filter(sku=sku, is_historical=True).exclude(sku="")
        product = products.values_list("pk", flat=True).first()
        if row.problem or product is None:
            self._refuse(row, row.problem or f"No catalogue product has the SKU {sku!r}.")
            return
        path = folder / name.replace("\\", "/")
        upload = Upload(read_file(path), path.name)
        outcomes = {}
        for version in (self.a, self.b) if len(self.rows) % 2 else (self.b, self.a):
            start = time.perf_counter()
            candidates = self._candidates(version, upload)
            outcomes[version.name] = self._outcome(candidates, product)
            self.taken[version.name].append(time.perf_counter() - start)
        self.rows.append((name, product))
        for key, outcome in outcomes.items():
            self.found[key].append(outcome)

    @staticmethod
    def _candidates(version: Compared, upload: Upload) -> list[service.Candidate]:
        name, kind = (ENCODER_NAME, LEGACY) if version.kind == LEGACY else (version.name, None)
        return service.match_image(
            upload, threshold=0, limit=MAX_RANK, wait=WAIT_SECONDS, feature_type=kind, version=name
        ).candidates

    @staticmethod
    def _outcome(candidates: Sequence[service.Candidate], product: int) -> tuple[int, float, int, int]:
        right = next((candidate for candidate in candidates if candidate.product.pk == product), None)
        first = candidates[0].image.pk if candidates else 0
        if right is None:
            return _NOT_FOUND, float("nan"), first, 0
        return right.rank, right.score, first, right.image.pk

    def _refuse(self, row: TableRow, reason: str) -> None:
        self.refused.append({"row": row.number, "reason": reason})

    def query_set(self) -> QuerySet:
        files, products = zip(*self.rows, strict=True)
        sides: list[Outcomes] = []
        for version in (self.a, self.b):
            ranks, scores, found, right = zip(*self.found[version.name], strict=True)
            sides.append(Outcomes(np.array(ranks), np.array(scores, np.float64), np.array(found), np.array(right)))
        count = Product.objects.filter(is_historical=True).count()
        return QuerySet(
            "queries", np.empty(0, np.int64), np.array(products, np.int64), count, sides[0], sides[1], files
        )

    def seconds(self) -> Seconds:
        return _median(self.taken[self.a.name]), _median(self.taken[self.b.name])
