"""Build an index file from the database.

Samples and trains, adds every vector, then measures how many lists to probe.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from core.cpu import cpu_cores
from matching.index import changes, loading, main_file
from matching.index.loading import Block
from matching.index.main_file import Stamp
from matching.index.main_segment import make_selector, search_lists
from matching.index.rows import Categories, Rows
from matching.index.types import Ids, Progress, Vectors, overfetch
from products.models import Feature

RowNumbers = npt.NDArray[np.int64]  # (queries, 10)

_DIRECTIONS = 256
_SAMPLES_PER_LIST = 32
_KMEANS_ROUNDS = 6  # further rounds move few vectors to other lists
_PROBE_QUERIES = 300  # stored vectors whose neighbours show how many lists to probe
_NEIGHBOURS = 10
_TARGET_RECALL, _MIN_RECALL = 0.995, 0.988
_FILTER_STEP = 10  # recall is also measured for a filter that passes every tenth row
_MAX_SCANNED_ROWS = 30_000  # a query, about half a millisecond; beyond it the lower recall has to do


def build(kind: str, model: str, progress: Progress) -> Stamp:
    """Build the index file of one kind and model and make it current.

    Takes less than 2 GB of memory, and about two minutes of two cores for a million vectors.
    Raises IndexFileError, and LookupError if there are no features.
    """
    import faiss

    faiss.omp_set_num_threads(cpu_cores())  # a search in this thread may have set 1
    revision = changes.latest_revision()  # readers add later changes from the log
    ids = np.fromiter(
        Feature.objects.filter(kind=kind, model_name=model).order_by("id").values_list("id", flat=True).iterator(),
        np.int64,
    )
    if not len(ids):
        raise LookupError(f"There are no {kind} features of {model}.")
    lists = max(1, int(2 * len(ids) ** 0.5))
    rng = np.random.default_rng(0)
    dim = next(loading.stream(kind, model)).dim
    sample = _read_sample(kind, model, dim, np.sort(rng.permutation(ids)[: _SAMPLES_PER_LIST * lists]), progress)
    lists = min(lists, len(sample))
    index = _train(sample, lists, progress)
    queries = sample[rng.permutation(len(sample))[:_PROBE_QUERIES]]
    del sample
    truth, truth_of_tenth = _ExactNeighbours(queries), _ExactNeighbours(queries)
    categories, invalid_ids, blocks = Categories(), list[int](), list[Rows]()
    for block in _report(loading.stream(kind, model, dim), len(ids), progress):
        index.add(block.vectors)
        truth_of_tenth.add(block.vectors[-truth.row_count % _FILTER_STEP :: _FILTER_STEP])
        truth.add(block.vectors)
        blocks.append(Rows.from_block(block, categories))
        invalid_ids += block.invalid_ids
    loading.log_invalid(kind, model, invalid_ids)
    rows = Rows.concatenate(blocks)
    probes = _find_probes(index, queries, truth.neighbours(), lists, 4, None)
    every_tenth = make_selector(np.arange(len(rows)) % _FILTER_STEP == 0)
    tenth_rows = truth_of_tenth.neighbours() * _FILTER_STEP
    probes_of_tenth = _find_probes(index, queries, tenth_rows, lists, probes, every_tenth)

    def make_stamp(index_name: str, rows_name: str, checks: dict[str, list[int]]) -> Stamp:
        return Stamp(
            kind, model, dim, len(rows), revision, time.time(), lists, probes, probes_of_tenth,
            categories.names, invalid_ids, index_name, rows_name, checks,
        )  # fmt: skip

    return main_file.write_files(index, rows, make_stamp)


def _read_sample(kind: str, model: str, dim: int, ids: Ids, progress: Progress) -> Vectors:
    blocks = []
    for block in loading.fetch(kind, model, dim, ids):
        blocks.append(block.vectors)
        progress("sample", sum(map(len, blocks)), len(ids))
    return np.concatenate(blocks)


def _train(sample: Vectors, lists: int, progress: Progress) -> Any:
    """Return an empty index whose directions, lists and value ranges fit the sample."""
    import faiss

    progress("train", 0, 1)
    dim = sample.shape[1]
    directions = min(_DIRECTIONS, dim)
    ivf = faiss.IndexIVFRaBitQ(faiss.IndexFlatL2(directions), directions, lists)
    ivf.cp.niter, ivf.cp.max_points_per_centroid, ivf.cp.min_points_per_centroid = _KMEANS_ROUNDS, _SAMPLES_PER_LIST, 1
    # RaBitQ needs the random rotation after the PCA, so that every bit carries as much information.
    coarse = faiss.IndexPreTransform(faiss.PCAMatrix(dim, directions, 0, True), ivf)
    index: Any = faiss.IndexRefine(coarse, faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit))
    index.train(sample)
    progress("train", 1, 1)
    return index


class _ExactNeighbours:
    """The exact nearest rows of stored vectors, collected from blocks of rows."""

    def __init__(self, queries: Vectors) -> None:
        self._queries = queries
        self.row_count = 0
        # One more, because the nearest row is the vector itself.
        self._scores = np.full((len(queries), _NEIGHBOURS + 1), -np.inf, np.float32)
        self._rows = np.full((len(queries), _NEIGHBOURS + 1), -1, np.int64)

    def add(self, vectors: Vectors) -> None:
        import faiss

        if not len(vectors):
            return
        k = min(_NEIGHBOURS + 1, len(vectors))
        scores, rows = faiss.knn(self._queries, vectors, k, faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.hstack([self._scores, scores]), np.hstack([self._rows, rows + self.row_count])
        best = np.argsort(-scores, axis=1)[:, : _NEIGHBOURS + 1]
        self._scores, self._rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        self.row_count += len(vectors)

    def neighbours(self) -> RowNumbers:
        """Return the nearest rows without the vectors themselves."""
        return self._rows[:, 1:]


def _find_probes(index: Any, queries: Vectors, truth: RowNumbers, lists: int, probes: int, selector: Any) -> int:
    """Return how many lists, from ``probes`` on, must be read to reach the target recall."""
    while probes < lists:
        _, candidates = search_lists(index, queries, overfetch(_NEIGHBOURS), probes, selector)
        hits = sum(len(np.intersect1d(*pair)) for pair in zip(candidates, truth, strict=True))
        recall = hits / truth.size
        is_affordable = probes / lists * index.ntotal <= _MAX_SCANNED_ROWS
        if recall >= _TARGET_RECALL or (recall >= _MIN_RECALL and not is_affordable):
            break
        probes = int(probes * 1.15) + 1
    return min(probes, lists)


def _report(blocks: Iterator[Block], total: int, progress: Progress) -> Iterator[Block]:
    done = 0
    for block in blocks:
        yield block
        done += len(block.feature) + len(block.invalid_ids)
        progress("add", done, total)
