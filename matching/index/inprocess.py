"""The in-process engine: one catalogue per kind and model, shared by a process's threads and kept fresh by the log.

A search looks at the newest place in the change log first (one indexed row) and reads only what changed since. So
what is committed is found by the very next search of every process, and what is deleted is gone from it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matching.index import changes, loading, main_file, maintenance
from matching.index.changes import Changes, Revision
from matching.index.delta_segment import DeltaSegment
from matching.index.main_file import IndexFileError, Stamp
from matching.index.main_segment import MainSegment
from matching.index.maintenance import SegmentState
from matching.index.rows import Categories
from matching.index.types import (
    Filters,
    Hit,
    Ids,
    IndexStatus,
    Progress,
    SearchVectorError,
    Vectors,
    overfetch,
    rank_products,
)
from products.models import Product

logger = logging.getLogger(__name__)

_IDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent state of a catalogue; threads keep searching theirs while the next is made."""

    revision: Revision
    stamp: tuple[int, int] | None  # the fingerprint of the base file's stamp when it was looked at
    base: MainSegment | None
    memory: DeltaSegment | None  # None while the catalogue is empty
    dim: int  # length of the stored colour vectors


class VectorCatalogue:
    """The searchable features of one kind and model, as this process knows them."""

    def __init__(self, kind: str, model: str) -> None:
        self.kind, self.model = kind, model
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._categories = Categories()

    def search(self, queries: Vectors, k: int, filters: Filters) -> list[Hit]:
        """At most one hit a product, best first; k hits whenever k qualifying products exist."""
        snapshot = self.fresh()
        parts = [part for part in (snapshot.base, snapshot.memory) if part is not None]
        without = () if filters.exclude_product is None else (filters.exclude_product,)
        want = overfetch(k)
        while parts:
            if queries.shape[1] != parts[0].dim:
                raise SearchVectorError(
                    f"The query has {queries.shape[1]} dimensions, the stored vectors of {self.model} have "
                    f"{parts[0].dim}."
                )
            found = [part.find(queries, want, filters, self._categories) for part in parts]
            vectors, images, products = (
                np.concatenate([getattr(part, name) for part in found]) for name in ("vectors", "image", "product")
            )
            hits = rank_products(queries, vectors, images, products, without, k)
            if len(hits) >= k or all(part.complete for part in found):
                return hits
            want *= 4
        return []

    def due(self) -> bool:
        """Whether searching has become slow for want of a base file, or of a newer one."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.memory is None:
            return False
        if snapshot.base is None:
            return len(snapshot.memory.rows) >= maintenance.MIN_VECTORS_FOR_ANN
        return maintenance.has_outgrown(len(snapshot.memory.rows), snapshot.base.stamp)

    def fresh(self) -> Snapshot:
        """The catalogue at the newest change that is committed."""
        head, stamp = changes.latest_revision(), main_file.fingerprint(self.kind, self.model)
        snapshot = self._snapshot
        if snapshot is not None and (snapshot.revision, snapshot.stamp) == (head, stamp):
            return snapshot
        with self._lock:
            self._snapshot = self._brought_up_to(head, stamp)
            return self._snapshot

    def _brought_up_to(self, head: Revision, stamp: tuple[int, int] | None) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None or not changes.is_known(snapshot.revision):
            return self._loaded(head, stamp)
        if snapshot.stamp != stamp:
            base = self._opened()
            if base is not None or snapshot.base is None:
                return self._loaded(head, stamp, base)
            # What is mapped still serves when its file is gone or its successor is damaged.
            snapshot = Snapshot(snapshot.revision, stamp, snapshot.base, snapshot.memory, snapshot.dim)
        if snapshot.revision.id >= head.id:
            return snapshot  # another thread was here first
        changed = changes.between(snapshot.revision, head, self.kind, self.model)
        return self._changed(snapshot, changed, head)

    def _opened(self) -> MainSegment | None:
        """The base file, if there is one that belongs to this catalogue."""
        try:
            stamp = main_file.read_stamp(self.kind, self.model)
            if not changes.is_known(stamp.revision):
                raise IndexFileError("base_foreign", "The base file is older than the change log, or of other data.")
            return MainSegment.open(stamp)
        except IndexFileError as error:
            if error.code != "base_missing":
                logger.warning("Searching %s %s exactly. %s", self.kind, self.model, error)
            return None

    def _loaded(self, head: Revision, stamp: tuple[int, int] | None, base: MainSegment | None = None) -> Snapshot:
        base = base or self._opened()
        if base is not None:
            self._categories = Categories(base.stamp.categories)
            snapshot = Snapshot(base.stamp.revision, stamp, base, DeltaSegment.empty(base.dim), base.stamp.dim)
            changed = changes.between(base.stamp.revision, head, self.kind, self.model)
            return self._changed(snapshot, changed, head)
        memory, dim = None, 0
        for block in loading.stream(self.kind, self.model):
            memory = memory or DeltaSegment.empty(block.vectors.shape[1])
            memory, dim = memory.plus(block, self._categories), block.dim
        return Snapshot(head, stamp, None, memory, dim)

    def _changed(self, snapshot: Snapshot, changed: Changes, head: Revision) -> Snapshot:
        base, memory = snapshot.base, snapshot.memory
        if memory is None:
            if len(changed.features):
                return self._loaded(head, snapshot.stamp)
            return Snapshot(head, snapshot.stamp, None, None, 0)
        if len(changed.products):
            columns = _filtered_columns(changed.products, self._categories)
            memory = memory.with_rows(memory.rows.revised(*columns))
            base = base and base.with_rows(base.rows.revised(*columns))
        if len(changed.features):
            memory = memory.with_rows(memory.rows.without(changed.features))
            base = base and base.with_rows(base.rows.without(changed.features))
            for block in loading.fetch(self.kind, self.model, snapshot.dim, changed.features):
                memory = memory.plus(block, self._categories)
        return Snapshot(head, snapshot.stamp, base, memory.compacted(), snapshot.dim)


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


_catalogues: dict[tuple[str, str], VectorCatalogue] = {}
_catalogues_lock = threading.Lock()


def search(queries: Vectors, k: int, kind: str, model: str, filters: Filters) -> list[Hit]:
    """See ``matching.index.search``."""
    with _catalogues_lock:
        catalogue = _catalogues.setdefault((kind, model), VectorCatalogue(kind, model))
    hits = catalogue.search(queries, k, filters)
    if catalogue.due():
        maintenance.request_maintenance()
    return hits


def rebuild(progress: Progress) -> list[str]:
    """See ``matching.index.rebuild``."""
    return [_built(stamp) for stamp in maintenance.rebuild(progress)]


def maintain() -> list[str]:
    """See ``matching.index.upkeep``."""
    return [_built(stamp) for stamp in maintenance.maintain()]


def describe() -> list[IndexStatus]:
    """See ``matching.index.describe``."""
    return [_described(state) for state in maintenance.states()]


def invalid_feature_ids() -> list[int]:
    """See ``matching.index.refused``."""
    return [feature for state in maintenance.states() if state.stamp is not None for feature in state.stamp.refused]


def _built(stamp: Stamp) -> str:
    return f"{stamp.kind} {stamp.model}: {stamp.count:,} vectors, {main_file.megabytes(stamp):,.0f} MB"


def _described(state: SegmentState) -> IndexStatus:
    what = f"{state.kind} {state.model}: {state.features:,} vectors"
    remedy = "Run `manage.py reindex --index-only`, or let the workers do it." if state.due else ""
    if state.stamp is None:
        why = "" if state.problem is None or state.problem.code == "base_missing" else f" ({state.problem})"
        return IndexStatus(f"{what}, compared one by one{why}", remedy)
    age = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state.stamp.built_at))
    size = main_file.megabytes(state.stamp)
    return IndexStatus(f"{what}, base file of {age}, {size:,.0f} MB, {state.changed:,} changes since", remedy)
