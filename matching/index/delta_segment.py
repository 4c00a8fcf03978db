"""Vectors in memory, searched exactly.

They are a small catalogue, or what changed since the main segment was built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from matching.index.loading import Block
from matching.index.rows import Candidates, Categories, Mask, Rows
from matching.index.types import Filters, Ids, Vectors

# Below this share of rows, copying the qualifying ones costs less than multiplying all of them.
_MAX_COPIED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class DeltaSegment:
    """Rows and their vectors.

    The next version shares the buffer and writes only behind these rows.
    """

    rows: Rows
    buffer: Vectors  # (capacity, d)

    @classmethod
    def empty(cls, dim: int) -> DeltaSegment:
        ids, codes, flags = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.bool_)
        return cls(Rows(ids, ids, ids, flags, codes, flags), np.empty((0, dim), np.float32))

    @property
    def dim(self) -> int:
        """Return the length of the search vectors."""
        return int(self.buffer.shape[1])

    def with_rows(self, rows: Rows) -> DeltaSegment:
        return replace(self, rows=rows)

    def with_block(self, block: Block, categories: Categories) -> DeltaSegment:
        """Return a version with the block appended.

        Call it on the newest version only, under a lock.
        """
        start, end = len(self.rows), len(self.rows) + len(block.feature)
        buffer = self.buffer
        if end > len(buffer):
            buffer = np.empty((max(end, 2 * start), buffer.shape[1]), np.float32)
            buffer[:start] = self.buffer[:start]
        buffer[start:end] = block.vectors
        return DeltaSegment(Rows.concatenate([self.rows, Rows.from_block(block, categories)]), buffer)

    def compacted(self) -> DeltaSegment:
        """Return a version without dead rows once they are the majority."""
        alive = np.flatnonzero(self.rows.alive)
        if len(self.rows) <= 2 * len(alive) + 1024:
            return self
        return DeltaSegment(self.rows.take(alive), self.buffer[alive])

    def search(self, queries: Vectors, product_count: int, filters: Filters, categories: Categories) -> Candidates:
        """Return the best qualifying rows, two a product, and all that tie with the last."""
        rows, is_complete = self._nearest(queries, 2 * product_count, self.rows.mask(filters, categories))
        return Candidates(self.rows.image[rows], self.rows.product[rows], self.buffer[rows], is_complete)

    def _nearest(self, queries: Vectors, count: int, mask: Mask) -> tuple[Ids, bool]:
        qualifying = np.flatnonzero(mask)
        if len(qualifying) <= count:
            return qualifying, True
        vectors = self.buffer[: len(self.rows)]
        if len(qualifying) < _MAX_COPIED_SHARE * len(mask):
            return qualifying[_top(_max_dots(queries, vectors[qualifying]), count)], False
        scores = _max_dots(queries, vectors)
        scores[~mask] = -np.inf
        return _top(scores, count), False


def _max_dots(queries: Vectors, vectors: Vectors) -> npt.NDArray[np.float32]:
    """Return each row's dot product with its most similar query, (n,)."""
    if len(queries) == 1:
        dots: npt.NDArray[np.float32] = vectors @ queries[0]
    else:
        dots = (vectors @ queries.T).max(axis=1)
    return dots


def _top(scores: npt.NDArray[np.float32], count: int) -> Ids:
    """Return the indices of the ``count`` highest scores and of all that tie with the last."""
    lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= lowest)
