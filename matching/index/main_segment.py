"""The large part of a large catalogue: a mapped FAISS index that finds, and stored vectors that score.

Three steps, each on fewer rows and more bits. An inverted file over the vectors' 256 principal directions, one bit
each, finds 200 rows; the same rows at 8 bits for each of all dimensions say which of them are nearest; the float32
vectors of those few are read from the database and score. Sources: Jégou, Douze and Schmid, "Product quantization
for nearest neighbor search", 2011 (inverted lists); Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a
theoretical error bound", 2024; Douze et al., "The Faiss library", 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from matching.index import loading, main_file
from matching.index.main_file import IndexFileError, Stamp
from matching.index.rows import Candidates, Categories, Mask, Rows
from matching.index.types import Filters, Ids, Vectors

# A filter that leaves at most so many rows is answered exactly: their vectors are all read and compared.
MAX_EXACT_ROWS = 1500
_SELECTIONS_KEPT = 16  # with up to 3 MB of vectors each
_SHORTLIST = 200  # rows that the inverted file finds, at least
_ROWS_A_PRODUCT = 3  # rows that the 8-bit codes leave for every product that is wanted
_QUERY_BITS = 4  # of each coordinate of a query, while it is compared with one-bit codes


@dataclass(frozen=True, slots=True)
class _Selection:
    """The rows that a filter leaves: how many, and either all of them (few) or a faiss selector (None: every row).

    ``found``: the few as they were read; they are the same until a row of the base changes.
    """

    count: int
    few: Ids | None
    selector: Any
    found: Candidates | None = None


@dataclass(frozen=True, slots=True)
class MainSegment:
    """A mapped base file; what changed since it was built is dead here and alive in memory."""

    stamp: Stamp
    index: Any  # faiss.Index
    rows: Rows
    mapped: main_file.Mapped  # what the index reads
    _selections: dict[tuple[bool | None, str | None], _Selection] = field(default_factory=dict)

    @classmethod
    def open(cls, stamp: Stamp) -> MainSegment:
        """Raises BaseFileError."""
        index, rows, mapped = main_file.open_files(stamp)
        main_file.read_ahead(mapped)
        return cls(stamp, index, rows, mapped)

    @property
    def dim(self) -> int:
        """Length of the search vectors."""
        return int(self.index.d)

    def with_rows(self, rows: Rows) -> MainSegment:
        return self if rows is self.rows else replace(self, rows=rows, _selections={})

    def find(self, queries: Vectors, want: int, filters: Filters, categories: Categories) -> Candidates:
        """The stored vectors of about the ``want`` most similar qualifying products, or of all there are."""
        selection = self._selection(filters, categories)
        if selection.few is not None:
            return self._few(selection, selection.few, filters)
        most = _ROWS_A_PRODUCT * want
        if selection.count <= most:
            return self._read(np.flatnonzero(self.rows.mask(filters, categories)), complete=True)
        rows, complete = search_main(self, queries, most, self._probes(selection.count), selection.selector)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.rows):
            raise IndexFileError("base_damaged", "The base file names rows that it does not have.")
        kept = _of_first(self.rows.product[rows], want)
        return self._read(rows[:kept], complete and kept == len(rows))

    def _few(self, selection: _Selection, few: Ids, filters: Filters) -> Candidates:
        if selection.found is not None:
            return selection.found
        found = self._read(few, complete=True)
        if filters.product_ids is None:
            self._selections[filters.historical, filters.category] = replace(selection, found=found)
        return found

    def _probes(self, count: int) -> int:
        """Lists to look into: more where few rows qualify, since the nearest of them lie farther away.

        Grows from what was measured for all rows, through what was measured for a tenth of them, as a power.
        """
        growth = math.log10(self.stamp.probes_of_tenth / self.stamp.probes)
        return int(self.stamp.probes * (self.stamp.count / count) ** growth)

    def _read(self, rows: Ids, complete: bool) -> Candidates:
        if not len(rows):
            return Candidates.nothing(self.dim)
        features = self.rows.feature[rows]
        return Candidates(
            *loading.fetch_for_scoring(self.stamp.kind, self.stamp.model, self.stamp.dim, features), complete
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


def search_main(base: MainSegment, queries: Vectors, want: int, probes: int, selector: Any) -> tuple[Ids, bool]:
    """Rows by rising distance to any of the queries: at least ``want``, or all that the selector leaves (True)."""
    import faiss

    # One thread a query: the web server's threads are the parallelism, and waiting for each other costs more.
    faiss.omp_set_num_threads(1)
    lists = base.stamp.lists
    while True:
        probes = min(lists, probes)
        distances, found = search_lists(base.index, queries, want, probes, selector)
        if len(queries) > 1:
            found = found.ravel()[np.argsort(distances, axis=None, kind="stable")]
            found = found[np.sort(np.unique(found, return_index=True)[1])]
        rows: Ids = found[found >= 0]
        if len(rows) >= want or probes == lists:
            return rows, len(rows) < want
        probes *= 4


def search_lists(
    index: Any, queries: Vectors, want: int, probes: int, selector: Any
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Distances and rows (q, want) of the nearest rows in ``probes`` lists, by their 8-bit codes; -1 where none is."""
    distances, rows = index.search(queries, want, params=_parameters(want, probes, selector))
    return distances, rows


@lru_cache(maxsize=32)  # making the three objects costs a search as much as reading two rows of the database
def _parameters(want: int, probes: int, selector: Any) -> Any:
    import faiss

    in_lists = faiss.IVFRaBitQSearchParameters(nprobe=probes, sel=selector, qb=_QUERY_BITS)
    return faiss.IndexRefineSearchParameters(
        k_factor=max(_SHORTLIST / want, 2), base_index_params=faiss.SearchParametersPreTransform(index_params=in_lists)
    )


def _of_first(products: Ids, want: int) -> int:
    """How many of the leading rows belong to the first ``want`` different products."""
    seen: set[int] = set()
    for row, product in enumerate(products.tolist()):
        seen.add(product)
        if len(seen) > want:
            return row
    return len(products)


def _selection_of(mask: Mask) -> _Selection:
    count = int(np.count_nonzero(mask))
    if count <= MAX_EXACT_ROWS:
        return _Selection(count, np.flatnonzero(mask), None)
    if count == len(mask):
        return _Selection(count, None, None)
    return _Selection(count, None, selector_of(mask))


def selector_of(mask: Mask) -> Any:
    """A faiss selector of the rows that are True."""
    import faiss

    bits: npt.NDArray[np.uint8] = np.packbits(mask, bitorder="little")
    return faiss.IDSelectorBitmap(bits)
