"""Build a base file from the database: sample, train, add every vector, measure how many lists need probing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.device import cpu_cores
from matching.index import changes, loading, main_file
from matching.index.loading import Block
from matching.index.main_file import Stamp
from matching.index.main_segment import search_lists, selector_of
from matching.index.rows import Categories, Rows
from matching.index.types import Ids, Progress, Vectors, overfetch
from products.models import Feature

Truth = npt.NDArray[np.int64]  # (questions, 10) row numbers

_DIRECTIONS = 256
_SAMPLES_A_LIST = 32
_ROUNDS = 6  # of k-means; more move few vectors to other lists
_PROBED = 300  # stored vectors whose neighbours tell how many lists to probe
_NEIGHBOURS = 10
_RECALL, _ENOUGH = 0.995, 0.988
_EVERY = 10  # the filter that is measured besides lets every tenth row pass
_AFFORDABLE = 30_000  # rows scanned a query, about half a millisecond; beyond it enough is enough


def build(kind: str, model: str, progress: Progress) -> Stamp:
    """Write the base file of one kind and model and make it current. Raises BaseFileError, LookupError when empty.

    Takes less than 2 GB of memory and about two minutes of two cores for a million vectors.
    """
    import faiss

    faiss.omp_set_num_threads(cpu_cores())  # a search in this thread may have set one
    revision = changes.latest_revision()  # what changes from here on is read from the log, on top of this file
    ids = np.fromiter(
        Feature.objects.filter(kind=kind, model_name=model).order_by("id").values_list("id", flat=True).iterator(),
        np.int64,
    )
    if not len(ids):
        raise LookupError(f"There are no {kind} features of {model}.")
    lists = max(1, int(2 * len(ids) ** 0.5))
    rng = np.random.default_rng(0)
    dim = next(loading.stream(kind, model)).dim
    sample = _sample(kind, model, dim, np.sort(rng.permutation(ids)[: _SAMPLES_A_LIST * lists]), progress)
    lists = min(lists, len(sample))
    index = _trained(sample, lists, progress)
    questions = sample[rng.permutation(len(sample))[:_PROBED]]
    del sample
    truth, truth_of_tenth = _Nearest(questions), _Nearest(questions)
    categories, refused, rows = Categories(), list[int](), list[Rows]()
    for block in _counted(loading.stream(kind, model, dim), len(ids), progress):
        index.add(block.vectors)
        truth_of_tenth.look(block.vectors[-truth.seen % _EVERY :: _EVERY])
        truth.look(block.vectors)
        rows.append(Rows.of(block, categories))
        refused += block.refused
    whole = Rows.joined(rows)
    probes = _probes(index, questions, truth.neighbours(), lists, 4, None)
    tenth = np.arange(len(whole)) % _EVERY == 0
    rows_of_tenth = truth_of_tenth.neighbours() * _EVERY
    probes_of_tenth = _probes(index, questions, rows_of_tenth, lists, probes, selector_of(tenth))

    def stamp(index_name: str, rows_name: str, checks: dict[str, list[int]]) -> Stamp:
        return Stamp(
            kind, model, dim, len(whole), revision, time.time(), lists, probes, probes_of_tenth,
            categories.names, refused, index_name, rows_name, checks,
        )  # fmt: skip

    return main_file.write_files(index, whole, stamp)


def _sample(kind: str, model: str, dim: int, ids: Ids, progress: Progress) -> Vectors:
    blocks = []
    for block in loading.fetch(kind, model, dim, ids):
        blocks.append(block.vectors)
        progress("sample", sum(map(len, blocks)), len(ids))
    return np.concatenate(blocks)


def _trained(sample: Vectors, lists: int, progress: Progress) -> Any:
    """An empty index, see ``ivf``, whose directions, lists and ranges of values fit the sample."""
    import faiss

    progress("train", 0, 1)
    width = sample.shape[1]
    directions = min(_DIRECTIONS, width)
    ivf = faiss.IndexIVFRaBitQ(faiss.IndexFlatL2(directions), directions, lists)
    ivf.cp.niter, ivf.cp.max_points_per_centroid, ivf.cp.min_points_per_centroid = _ROUNDS, _SAMPLES_A_LIST, 1
    # The random rotation behind the principal directions is RaBitQ's: every bit tells equally much.
    finder = faiss.IndexPreTransform(faiss.PCAMatrix(width, directions, 0, True), ivf)
    index: Any = faiss.IndexRefine(finder, faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit))
    index.train(sample)
    progress("train", 1, 1)
    return index


class _Nearest:
    """The exact nearest rows of some stored vectors, over blocks of rows that are seen once."""

    def __init__(self, questions: Vectors) -> None:
        self._questions = questions
        self.seen = 0
        # One more than asked for: the nearest of all is the vector itself.
        self._scores = np.full((len(questions), _NEIGHBOURS + 1), -np.inf, np.float32)
        self._rows = np.full((len(questions), _NEIGHBOURS + 1), -1, np.int64)

    def look(self, vectors: Vectors) -> None:
        import faiss

        if not len(vectors):
            return
        among = min(_NEIGHBOURS + 1, len(vectors))
        scores, rows = faiss.knn(self._questions, vectors, among, faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.hstack([self._scores, scores]), np.hstack([self._rows, rows + self.seen])
        best = np.argsort(-scores, axis=1)[:, : _NEIGHBOURS + 1]
        self._scores, self._rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        self.seen += len(vectors)

    def neighbours(self) -> Truth:
        """The nearest rows without the vectors themselves."""
        return self._rows[:, 1:]


def _probes(index: Any, questions: Vectors, truth: Truth, lists: int, probes: int, selector: Any) -> int:
    """How many lists, ``probes`` at least, bring the nearest rows of stored vectors among the candidates."""
    while probes < lists:
        _, found = search_lists(index, questions, overfetch(_NEIGHBOURS), probes, selector)
        hit = sum(len(np.intersect1d(*pair)) for pair in zip(found, truth, strict=True))
        recall = hit / truth.size
        affordable = probes / lists * index.ntotal <= _AFFORDABLE
        if recall >= _RECALL or (recall >= _ENOUGH and not affordable):
            break
        probes = int(probes * 1.15) + 1
    return min(probes, lists)


def _counted(blocks: Iterator[Block], total: int, progress: Progress) -> Iterator[Block]:
    done = 0
    for block in blocks:
        yield block
        done += len(block.feature) + len(block.refused)
        progress("add", done, total)
