"""The in-process engine: one catalogue per kind and model, shared by a process's threads and kept fresh by the log.

A search looks at the newest place in the change log first (one indexed row) and reads only what changed since. So
what is committed is found by the very next search of every process, and what is deleted is gone from it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matching.index import changes, loading
from matching.index.changes import Changed, Revision
from matching.index.memory import MemoryPart
from matching.index.protocol import Filters, Hit, Ids, SearchVectorError, Vectors, best
from matching.index.rows import Categories
from products.models import Product

_IDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent state of a catalogue; threads keep searching theirs while the next is made."""

    revision: Revision
    memory: MemoryPart | None  # None while the catalogue is empty
    dim: int  # length of the stored colour vectors
    refused: frozenset[int]  # ids of features that are no usable vectors


class Catalogue:
    """The searchable features of one kind and model, as this process knows them."""

    def __init__(self, kind: str, model: str) -> None:
        self.kind, self.model = kind, model
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._categories = Categories()

    def search(self, queries: Vectors, k: int, filters: Filters) -> list[Hit]:
        """At most one hit a product, best first; k hits whenever k qualifying products exist."""
        memory = self.fresh().memory
        if memory is None:
            return []
        if queries.shape[1] != memory.buffer.shape[1]:
            raise SearchVectorError(
                f"The query has {queries.shape[1]} dimensions, the catalogue's vectors of {self.model} have "
                f"{memory.buffer.shape[1]}."
            )
        without = () if filters.exclude_product is None else (filters.exclude_product,)
        want = 4 * k + 32  # several pictures of one product are one hit
        while True:
            found, complete = memory.find(queries, want, filters, self._categories)
            rows = memory.rows
            hits = best(queries, memory.buffer[found], rows.image[found], rows.product[found], without)
            if len(hits) >= k or complete:
                return hits[:k]
            want *= 4

    def fresh(self) -> Snapshot:
        """The catalogue at the newest change that is committed."""
        head = changes.head()
        snapshot = self._snapshot
        if snapshot is not None and snapshot.revision == head:
            return snapshot
        with self._lock:
            self._snapshot = self._brought_up_to(head)
            return self._snapshot

    def _brought_up_to(self, head: Revision) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None or not changes.holds(snapshot.revision):
            return self._loaded(head)
        if snapshot.revision.id >= head.id:
            return snapshot  # another thread was here first
        changed = changes.between(snapshot.revision, head, self.kind, self.model)
        if snapshot.memory is None:
            return self._loaded(head) if len(changed.features) else Snapshot(head, None, 0, frozenset())
        return self._changed(snapshot, snapshot.memory, changed, head)

    def _loaded(self, head: Revision) -> Snapshot:
        memory, dim, refused = None, 0, list[int]()
        for block in loading.stream(self.kind, self.model):
            memory = memory or MemoryPart.empty(block.vectors.shape[1])
            memory, dim = memory.plus(block, self._categories), block.dim
            refused += block.refused
        return Snapshot(head, memory, dim, frozenset(refused))

    def _changed(self, snapshot: Snapshot, memory: MemoryPart, changed: Changed, head: Revision) -> Snapshot:
        refused = snapshot.refused - set(changed.features.tolist())
        rows = memory.rows.without(changed.features)
        if len(changed.products):
            rows = rows.revised(*_filtered_columns(changed.products, self._categories))
        memory = memory.with_rows(rows)
        for block in loading.fetch(self.kind, self.model, snapshot.dim, changed.features):
            memory = memory.plus(block, self._categories)
            refused |= set(block.refused)
        return Snapshot(head, memory.compacted(), snapshot.dim, refused)


def _filtered_columns(
    products: Ids, categories: Categories
) -> tuple[Ids, npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """(ids, historical, category codes) of the products that are there, by rising id."""
    found: list[tuple[int, bool, str]] = []
    for start in range(0, len(products), _IDS_A_QUERY):
        ids = products[start : start + _IDS_A_QUERY].tolist()
        found += Product.objects.filter(id__in=ids).order_by("id").values_list("id", "is_historical", "category")
    return (
        np.array([row[0] for row in found], np.int64),
        np.array([row[1] for row in found], np.bool_),
        categories.codes([row[2] for row in found]),
    )


_catalogues: dict[tuple[str, str], Catalogue] = {}
_catalogues_lock = threading.Lock()


def search(queries: Vectors, k: int, kind: str, model: str, filters: Filters) -> list[Hit]:
    """See ``matching.index.search``."""
    with _catalogues_lock:
        catalogue = _catalogues.setdefault((kind, model), Catalogue(kind, model))
    return catalogue.search(queries, k, filters)
