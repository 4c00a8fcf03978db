"""The in-process engine: one catalogue for each kind and model, shared by all threads.

The change log keeps it current. A search first reads the newest revision (one indexed row) and then only what changed
since. So the next search of every process finds what was committed, and no longer finds what was deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from matching.index import changes, loading, main_file, maintenance
from matching.index.changes import Changes, Revision
from matching.index.confirmed import confirmed_among
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent state of a catalogue.

    Threads go on searching theirs while the next one is made.
    """

    revision: Revision
    fingerprint: tuple[int, int] | None  # of the stamp, when the main segment was opened or found missing
    main: MainSegment | None
    delta: DeltaSegment | None  # None while the catalogue is empty
    dim: int  # length of the stored colour vectors


class VectorCatalogue:
    """The searchable features of one kind and model in this process."""

    def __init__(self, kind: str, model: str) -> None:
        self.kind, self.model = kind, model
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._categories = Categories()

    def search(self, queries: Vectors, k: int, filters: Filters) -> list[Hit]:
        """Return the k best hits, at most one a product. Fewer only if fewer products qualify."""
        snapshot = self.current_snapshot()
        segments = [segment for segment in (snapshot.main, snapshot.delta) if segment is not None]
        excluded = () if filters.exclude_product is None else (filters.exclude_product,)
        product_count = overfetch(k)
        while segments:
            if queries.shape[1] != segments[0].dim:
                raise SearchVectorError(
                    f"The query has {queries.shape[1]} dimensions, the stored vectors of {self.model} have "
                    f"{segments[0].dim}."
                )
            parts = [segment.search(queries, product_count, filters, self._categories) for segment in segments]
            vectors, images, products = (
                np.concatenate([getattr(part, name) for part in parts]) for name in ("vectors", "images", "products")
            )
            hits = rank_products(queries, vectors, images, products, excluded, k)
            if len(hits) >= k or all(part.is_complete for part in parts):
                return hits
            product_count *= 4
        return []

    def is_stale(self) -> bool:
        """Return whether search has become slow and a main segment should be built."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.delta is None:
            return False
        if snapshot.main is None:
            return len(snapshot.delta.rows) >= maintenance.MIN_VECTORS_FOR_ANN
        return maintenance.is_outdated(snapshot.main.stamp, len(snapshot.delta.rows))

    def current_snapshot(self) -> Snapshot:
        """Return the catalogue at the newest committed change."""
        latest, fingerprint = changes.latest_revision(), main_file.fingerprint(self.kind, self.model)
        snapshot = self._snapshot
        if snapshot is not None and (snapshot.revision, snapshot.fingerprint) == (latest, fingerprint):
            return snapshot
        with self._lock:
            self._snapshot = self._advance(latest, fingerprint)
            return self._snapshot

    def _advance(self, latest: Revision, fingerprint: tuple[int, int] | None) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None or not changes.is_known(snapshot.revision):
            return self._load(latest, fingerprint)
        if snapshot.fingerprint != fingerprint:
            main = self._open_main()
            if main is not None or snapshot.main is None:
                return self._load(latest, fingerprint, main)
            # The file is gone or its successor is damaged. The loaded segment still works.
            snapshot = replace(snapshot, fingerprint=fingerprint)
        if snapshot.revision.id >= latest.id:
            return snapshot  # another thread advanced it
        changed = changes.between(snapshot.revision, latest, self.kind, self.model)
        return self._apply(snapshot, changed, latest)

    def _open_main(self) -> MainSegment | None:
        """Return the main segment, or None if no intact file belongs to this catalogue."""
        stamp = None
        try:
            stamp = main_file.read_current_stamp(self.kind, self.model)
            return MainSegment.open(stamp)
        except IndexFileError as error:
            if error.code != "base_missing":
                logger.warning("The index file of %s %s is not used. %s", self.kind, self.model, error)
            if error.code == "base_damaged" and stamp is not None:
                main_file.discard(stamp)
            return None

    def _load(self, latest: Revision, fingerprint: tuple[int, int] | None, main: MainSegment | None = None) -> Snapshot:
        main = main or self._open_main()
        if main is not None:
            self._categories = Categories(main.stamp.categories)
            snapshot = Snapshot(main.stamp.revision, fingerprint, main, DeltaSegment.empty(main.dim), main.stamp.dim)
            changed = changes.between(main.stamp.revision, latest, self.kind, self.model)
            return self._apply(snapshot, changed, latest)
        delta, dim = None, 0
        for block in loading.stream(self.kind, self.model):
            loading.log_invalid(self.kind, self.model, block.invalid_ids)
            delta = delta or DeltaSegment.empty(block.vectors.shape[1])
            delta, dim = delta.with_block(block, self._categories), block.dim
        return Snapshot(latest, fingerprint, None, delta, dim)

    def _apply(self, snapshot: Snapshot, changed: Changes, latest: Revision) -> Snapshot:
        main, delta = snapshot.main, snapshot.delta
        if delta is None:
            if len(changed.features):
                return self._load(latest, snapshot.fingerprint)
            return Snapshot(latest, snapshot.fingerprint, None, None, 0)
        if len(changed.products):
            columns = _filter_columns(self.kind, changed.products, self._categories)
            delta = delta.with_rows(delta.rows.with_columns(*columns))
            main = main and main.with_rows(main.rows.with_columns(*columns))
        if len(changed.features):
            delta = delta.with_rows(delta.rows.with_dead(changed.features))
            main = main and main.with_rows(main.rows.with_dead(changed.features))
            for block in loading.fetch(self.kind, self.model, snapshot.dim, changed.features):
                loading.log_invalid(self.kind, self.model, block.invalid_ids)
                delta = delta.with_block(block, self._categories)
        return Snapshot(latest, snapshot.fingerprint, main, delta.compacted(), snapshot.dim)


def _filter_columns(
    kind: str, products: Ids, categories: Categories
) -> tuple[Ids, npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Return (ids, historical, category codes) of those products that exist, by rising id."""
    rows: list[tuple[int, bool, str]] = []
    for start in range(0, len(products), loading.IDS_PER_QUERY):
        ids = products[start : start + loading.IDS_PER_QUERY].tolist()
        rows += Product.objects.filter(id__in=ids).order_by("id").values_list("id", "is_historical", "category")
    confirmed = set(confirmed_among(kind, [row[0] for row in rows if not row[1]]).tolist())
    return (
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] or row[0] in confirmed for row in rows], np.bool_),
        categories.codes([row[2] for row in rows]),
    )


_catalogues: dict[tuple[str, str], VectorCatalogue] = {}
_catalogues_lock = threading.Lock()


def search(queries: Vectors, k: int, kind: str, model: str, filters: Filters) -> list[Hit]:
    """See ``matching.index.search``."""
    with _catalogues_lock:
        catalogue = _catalogues.setdefault((kind, model), VectorCatalogue(kind, model))
    hits = catalogue.search(queries, k, filters)
    if catalogue.is_stale():
        maintenance.request_maintenance()
    return hits


def rebuild(progress: Progress) -> list[str]:
    """See ``matching.index.rebuild``."""
    return [_sentence(stamp) for stamp in maintenance.rebuild(progress)]


def maintain() -> list[str]:
    """See ``matching.index.maintain``."""
    return [_sentence(stamp) for stamp in maintenance.maintain()]


def describe() -> list[IndexStatus]:
    """See ``matching.index.describe``."""
    return [_status(state) for state in maintenance.states()]


def invalid_feature_ids() -> list[int]:
    """See ``matching.index.invalid_feature_ids``."""
    return [feature for state in maintenance.states() if state.stamp is not None for feature in state.stamp.refused]


def _sentence(stamp: Stamp) -> str:
    return f"{stamp.kind} {stamp.model}: {stamp.count:,} vectors, {main_file.megabytes(stamp):,.0f} MB"


def _status(state: SegmentState) -> IndexStatus:
    text = f"{state.kind} {state.model}: {state.features:,} vectors"
    remedy = "Run `manage.py reindex --index-only`, or let the workers do it." if state.is_stale else ""
    if state.stamp is None:
        reason = "" if state.problem is None or state.problem.code == "base_missing" else f" ({state.problem})"
        return IndexStatus(f"{text}, searched exactly{reason}", remedy)
    built_at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state.stamp.built_at))
    size = main_file.megabytes(state.stamp)
    return IndexStatus(f"{text}, index file of {built_at}, {size:,.0f} MB, {state.changed:,} changes since", remedy)
