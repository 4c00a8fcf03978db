"""The main segment of a large catalogue: a FAISS index finds rows, stored vectors score them.

Each of three steps works on fewer rows with more bits. An inverted file over the vectors' 256 principal directions,
one bit each, finds 200 rows. Codes of 8 bits for all dimensions order them. The float32 vectors of the best are read
from the database and score. Sources: Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011
(inverted lists); Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound", 2024;
Douze et al., "The Faiss library", 2024.
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

# If a filter passes at most so many rows, the search is exact: it reads and compares all their vectors.
MAX_EXACT_ROWS = 1500
_MAX_SELECTIONS = 16  # cached, with up to 3 MB of vectors each
_MIN_SHORTLIST = 200  # rows that the inverted file finds
_ROWS_PER_PRODUCT = 3  # rows that the 8-bit codes leave for each product of the result
_QUERY_BITS = 4  # of each coordinate of a query, for the comparison with one-bit codes


@dataclass(frozen=True, slots=True)
class _Selection:
    """The rows that pass a filter: all of them if they are few, otherwise a FAISS selector.

    A selector of None selects every row. ``candidates`` caches the few rows, which stay the same until a row of the
    segment changes.
    """

    count: int
    few: Ids | None
    selector: Any
    candidates: Candidates | None = None


@dataclass(frozen=True, slots=True)
class MainSegment:
    """A loaded index file.

    Rows that changed since its build are dead here and live in the delta segment.
    """

    stamp: Stamp
    index: Any  # faiss.Index
    rows: Rows
    buffer: main_file.Buffer  # what the index reads
    _selections: dict[tuple[bool | None, str | None], _Selection] = field(default_factory=dict)

    @classmethod
    def open(cls, stamp: Stamp) -> MainSegment:
        """Load the files of a stamp. Raises IndexFileError."""
        return cls(stamp, *main_file.open_files(stamp))

    @property
    def dim(self) -> int:
        """Return the length of the search vectors."""
        return int(self.index.d)

    def with_rows(self, rows: Rows) -> MainSegment:
        return self if rows is self.rows else replace(self, rows=rows, _selections={})

    def search(self, queries: Vectors, product_count: int, filters: Filters, categories: Categories) -> Candidates:
        """Return rows of about the ``product_count`` best products that qualify, or of all."""
        selection = self._selection(filters, categories)
        if selection.few is not None:
            return self._exact_candidates(selection, selection.few, filters)
        row_count = _ROWS_PER_PRODUCT * product_count
        if selection.count <= row_count:
            return self._read(np.flatnonzero(self.rows.mask(filters, categories)), is_complete=True)
        rows, is_complete = self._nearest(queries, row_count, self._probes(selection.count), selection.selector)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.rows):
            raise IndexFileError("base_damaged", "The index file names rows that it does not have.")
        used = _rows_of_first_products(self.rows.product[rows], product_count)
        return self._read(rows[:used], is_complete and used == len(rows))

    def _exact_candidates(self, selection: _Selection, few: Ids, filters: Filters) -> Candidates:
        if selection.candidates is not None:
            return selection.candidates
        candidates = self._read(few, is_complete=True)
        if filters.product_ids is None:
            self._selections[filters.historical, filters.category] = replace(selection, candidates=candidates)
        return candidates

    def _nearest(self, queries: Vectors, count: int, probes: int, selector: Any) -> tuple[Ids, bool]:
        """Return rows by rising distance to any of the queries, and whether no others qualify.

        They are at least ``count``, or all that the selector passes.
        """
        import faiss

        # One thread a query: the web server already runs queries in parallel, and waiting for others costs more.
        faiss.omp_set_num_threads(1)
        lists = self.stamp.lists
        while True:
            probes = min(lists, probes)
            distances, neighbours = search_lists(self.index, queries, count, probes, selector)
            if len(queries) > 1:
                neighbours = neighbours.ravel()[np.argsort(distances, axis=None, kind="stable")]
                neighbours = neighbours[np.sort(np.unique(neighbours, return_index=True)[1])]
            rows: Ids = neighbours[neighbours >= 0]
            if len(rows) >= count or probes == lists:
                return rows, len(rows) < count
            probes *= 4

    def _probes(self, count: int) -> int:
        """Return how many lists to read if ``count`` rows qualify.

        Fewer qualifying rows need more lists, because the nearest of them are farther away. The number is a power law
        through the two measured points: all rows, and a tenth of them.
        """
        growth = math.log10(self.stamp.probes_of_tenth / self.stamp.probes)
        return int(self.stamp.probes * (self.stamp.count / count) ** growth)

    def _read(self, rows: Ids, is_complete: bool) -> Candidates:
        if not len(rows):
            return Candidates.empty(self.dim)
        features = self.rows.feature[rows]
        return Candidates(
            *loading.fetch_for_scoring(self.stamp.kind, self.stamp.model, self.stamp.dim, features), is_complete
        )

    def _selection(self, filters: Filters, categories: Categories) -> _Selection:
        if filters.product_ids is not None:
            return _make_selection(self.rows.mask(filters, categories))
        key = (filters.historical, filters.category)
        selection = self._selections.get(key)
        if selection is None:
            selection = _make_selection(self.rows.mask(filters, categories))
            if len(self._selections) >= _MAX_SELECTIONS:
                self._selections.clear()
            self._selections[key] = selection
        return selection


def search_lists(
    index: Any, queries: Vectors, count: int, probes: int, selector: Any
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return distances and rows (q, count) of the nearest rows in ``probes`` lists, by 8-bit codes.

    Row -1 fills the end if there are fewer.
    """
    distances, rows = index.search(queries, count, params=_parameters(count, probes, selector))
    return distances, rows


def make_selector(mask: Mask) -> Any:
    """Return a FAISS selector of the rows that are True."""
    import faiss

    bits: npt.NDArray[np.uint8] = np.packbits(mask, bitorder="little")
    return faiss.IDSelectorBitmap(bits)


@lru_cache(maxsize=32)  # making the three objects costs as much as reading two rows of the database
def _parameters(count: int, probes: int, selector: Any) -> Any:
    import faiss

    in_lists = faiss.IVFRaBitQSearchParameters(nprobe=probes, sel=selector, qb=_QUERY_BITS)
    return faiss.IndexRefineSearchParameters(
        k_factor=max(_MIN_SHORTLIST / count, 2),
        base_index_params=faiss.SearchParametersPreTransform(index_params=in_lists),
    )


def _rows_of_first_products(products: Ids, count: int) -> int:
    """Return how many leading rows belong to the first ``count`` distinct products."""
    seen: set[int] = set()
    for row, product in enumerate(products.tolist()):
        seen.add(product)
        if len(seen) > count:
            return row
    return len(products)


def _make_selection(mask: Mask) -> _Selection:
    count = int(np.count_nonzero(mask))
    if count <= MAX_EXACT_ROWS:
        return _Selection(count, np.flatnonzero(mask), None)
    if count == len(mask):
        return _Selection(count, None, None)
    return _Selection(count, None, make_selector(mask))
