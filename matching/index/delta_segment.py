"""Vectors in memory, searched exactly: a whole small catalogue, or what changed since the base of a large one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from matching.index.loading import Block
from matching.index.rows import Candidates, Categories, Mask, Rows
from matching.index.types import Filters, Ids, Vectors

# Below this share of rows, copying the qualifying ones out costs less than multiplying all of them.
_NARROW = 0.25


@dataclass(frozen=True, slots=True)
class DeltaSegment:
    """``rows`` and their vectors. The buffer is shared with the next version, which only writes behind our rows."""

    rows: Rows
    buffer: Vectors  # (capacity, d)

    @classmethod
    def empty(cls, dim: int) -> DeltaSegment:
        ids, codes, flags = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.bool_)
        return cls(Rows(ids, ids, ids, flags, codes, flags), np.empty((0, dim), np.float32))

    @property
    def dim(self) -> int:
        """Length of the search vectors."""
        return int(self.buffer.shape[1])

    def with_rows(self, rows: Rows) -> DeltaSegment:
        return replace(self, rows=rows)

    def plus(self, block: Block, categories: Categories) -> DeltaSegment:
        """With a block's rows behind the present ones. Only ever call it on the newest version, under a lock."""
        start, end = len(self.rows), len(self.rows) + len(block.feature)
        buffer = self.buffer
        if end > len(buffer):
            buffer = np.empty((max(end, 2 * start), buffer.shape[1]), np.float32)
            buffer[:start] = self.buffer[:start]
        buffer[start:end] = block.vectors
        return DeltaSegment(Rows.joined([self.rows, Rows.of(block, categories)]), buffer)

    def compacted(self) -> DeltaSegment:
        """Without the dead rows, once they are most of it."""
        alive = np.flatnonzero(self.rows.alive)
        if len(self.rows) <= 2 * len(alive) + 1024:
            return self
        return DeltaSegment(self.rows.taken(alive), self.buffer[alive])

    def find(self, queries: Vectors, want: int, filters: Filters, categories: Categories) -> Candidates:
        """The best qualifying rows, two for every product that is wanted, with all that tie with the last of them."""
        indices, complete = self._best(queries, 2 * want, self.rows.mask(filters, categories))
        return Candidates(self.rows.image[indices], self.rows.product[indices], self.buffer[indices], complete)

    def _best(self, queries: Vectors, want: int, mask: Mask) -> tuple[Ids, bool]:
        qualifying = np.flatnonzero(mask)
        if len(qualifying) <= want:
            return qualifying, True
        vectors = self.buffer[: len(self.rows)]
        if len(qualifying) < _NARROW * len(mask):
            return qualifying[_top(_best_of(queries, vectors[qualifying]), want)], False
        scores = _best_of(queries, vectors)
        scores[~mask] = -np.inf
        return _top(scores, want), False


def _best_of(queries: Vectors, vectors: Vectors) -> npt.NDArray[np.float32]:
    """(n,): each row's dot product with the query row that it is most like."""
    if len(queries) == 1:
        scores: npt.NDArray[np.float32] = vectors @ queries[0]
    else:
        scores = (vectors @ queries.T).max(axis=1)
    return scores


def _top(scores: npt.NDArray[np.float32], want: int) -> Ids:
    """Indices of the ``want`` highest scores and of everything that ties with the last of them."""
    least = np.partition(scores, len(scores) - want)[len(scores) - want]
    return np.flatnonzero(scores >= least)
