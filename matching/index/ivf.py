"""The large part of a large catalogue: a mapped FAISS inverted file that finds, and stored vectors that score.

An IVF index over the vectors' 256 principal directions with 8 bits each. It only has to bring the right rows among
the first few dozen, whose float32 vectors are then read from the database. Principal directions keep distances,
and scanning half the bytes costs half the time. Sources: Jégou, Douze and Schmid, "Product quantization for nearest
neighbor search", 2011 (inverted lists); Douze et al., "The Faiss library", 2024.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from matching.index import basefile, loading
from matching.index.basefile import BaseFileError, Stamp
from matching.index.protocol import Filters, Ids, Vectors
from matching.index.rows import Categories, Found, Mask, Rows

# A filter that leaves at most so many rows is answered exactly: their vectors are all read and compared.
NARROW = 1500
_SELECTIONS_KEPT = 16  # with up to 3 MB of vectors each


@dataclass(frozen=True, slots=True)
class _Selection:
    """The rows that a filter leaves: how many, and either all of them (few) or a faiss selector (None: every row).

    ``found``: the few as they were read; they are the same until a row of the base changes.
    """

    count: int
    few: Ids | None
    selector: Any
    found: Found | None = None


@dataclass(frozen=True, slots=True)
class BasePart:
    """A mapped base file; what changed since it was built is dead here and alive in memory."""

    stamp: Stamp
    index: Any  # faiss.Index
    rows: Rows
    _selections: dict[tuple[bool | None, str | None], _Selection] = field(default_factory=dict)

    @classmethod
    def open(cls, stamp: Stamp) -> BasePart:
        """Raises BaseFileError."""
        return cls(stamp, *basefile.open_files(stamp))

    @property
    def dim(self) -> int:
        """Length of the search vectors."""
        return int(self.index.d)

    def with_rows(self, rows: Rows) -> BasePart:
        return self if rows is self.rows else replace(self, rows=rows, _selections={})

    def find(self, queries: Vectors, want: int, filters: Filters, categories: Categories) -> Found:
        """The stored vectors of about the ``want`` most similar qualifying rows of each query, or of all there are."""
        selection = self._selection(filters, categories)
        if selection.few is not None:
            return self._few(selection, selection.few, filters)
        if selection.count <= want:
            return self._read(np.flatnonzero(self.rows.mask(filters, categories)), complete=True)
        indices, complete = probe(self.index, queries, want, self._probes(selection.count), selection.selector)
        return self._read(indices, complete)

    def _few(self, selection: _Selection, few: Ids, filters: Filters) -> Found:
        if selection.found is not None:
            return selection.found
        found = self._read(few, complete=True)
        if filters.product_ids is None:
            self._selections[filters.historical, filters.category] = replace(selection, found=found)
        return found

    def _probes(self, count: int) -> int:
        """Lists to look into: more where few rows qualify, since the nearest of them lie farther away."""
        return int(self.stamp.probes * (self.stamp.count / count) ** 0.5)

    def _read(self, indices: Ids, complete: bool) -> Found:
        if len(indices) and not (indices[0] >= 0 and indices[-1] < len(self.rows)):
            raise BaseFileError("base_damaged", "The base file names rows that it does not have.")
        blocks = list(loading.fetch(self.stamp.kind, self.stamp.model, self.stamp.dim, self.rows.feature[indices]))
        if not blocks:
            return Found.nothing(self.dim)
        return Found(
            np.concatenate([block.image for block in blocks]),
            np.concatenate([block.product for block in blocks]),
            np.concatenate([block.vectors for block in blocks]),
            complete,
        )

    def _selection(self, filters: Filters, categories: Categories) -> _Selection:
        if filters.product_ids is not None:
            return _selection_of(self.rows.mask(filters, categories))
        key = (filters.historical, filters.category)
        selection = self._selections.get(key)
        if selection is None:
            selection = _selection_of(self.rows.mask(filters, categories))
            if len(self._selections) >= _SELECTIONS_KEPT:
                self._selections.clear()
            self._selections[key] = selection
        return selection


def probe(index: Any, queries: Vectors, want: int, probes: int, selector: Any) -> tuple[Ids, bool]:
    """Rows nearest to the queries by an IVF index: at least ``want``, or all that the selector leaves (True)."""
    faiss: Any = importlib.import_module("faiss")
    # One thread a query: the web server's threads are the parallelism, and waiting for each other costs more.
    faiss.omp_set_num_threads(1)
    lists = ivf_of(index).nlist
    while True:
        probes = min(lists, probes)
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        if isinstance(index, faiss.IndexPreTransform):
            parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        _, found = index.search(queries, want, params=parameters)
        rows = np.unique(found[found >= 0]).astype(np.int64)
        if len(rows) >= want or probes == lists:
            return rows, len(rows) < want
        probes *= 4


def ivf_of(index: Any) -> Any:
    """The inverted file inside an index that may first transform its vectors."""
    faiss: Any = importlib.import_module("faiss")
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def _selection_of(mask: Mask) -> _Selection:
    faiss: Any = importlib.import_module("faiss")
    count = int(np.count_nonzero(mask))
    if count <= NARROW:
        return _Selection(count, np.flatnonzero(mask), None)
    if count == len(mask):
        return _Selection(count, None, None)
    bits: npt.NDArray[np.uint8] = np.packbits(mask, bitorder="little")
    return _Selection(count, None, faiss.IDSelectorBitmap(bits))
