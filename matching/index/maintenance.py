"""Decide when index files are built, replaced and removed, and prune the change log."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files import locks
from django.db import connection
from django.db.models import Count
from django.dispatch import Signal

from core import files
from matching.index import building, changes, main_file
from matching.index.main_file import IndexFileError, Stamp
from matching.index.types import Progress, no_progress
from products.models import Feature

logger = logging.getLogger(__name__)

# Sent if a main segment is stale and a broker is configured, so that a worker runs ``maintain``.
maintenance_due = Signal()

# Smaller catalogues get no index file: exact search takes under 3 ms (benchmarks/search.py).
MIN_VECTORS_FOR_ANN = 25_000
# An index file is replaced once so many vectors changed, and so large a share of it.
MIN_CHANGED_ROWS, MIN_CHANGED_SHARE = 10_000, 0.05
# Log rows to keep for processes without an index file, and the most to keep for an old index file.
MIN_LOG_ROWS, MAX_LOG_ROWS = 10_000, 1_000_000
_REQUEST_INTERVAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SegmentState:
    """One kind and model: its features, and its index file or the reason why it has none."""

    kind: str
    model: str
    features: int
    stamp: Stamp | None
    problem: IndexFileError | None
    changed: int  # changes since the index file was built

    @property
    def is_stale(self) -> bool:
        """Return whether an index file should be built."""
        if self.features < MIN_VECTORS_FOR_ANN:
            return False
        return self.stamp is None or is_outdated(self.stamp, self.changed)


def is_outdated(stamp: Stamp, changed: int) -> bool:
    """Return whether so many vectors changed that the index file should be rebuilt."""
    return changed > max(MIN_CHANGED_ROWS, MIN_CHANGED_SHARE * stamp.count)


def states() -> list[SegmentState]:
    """Return the state of each kind and model that has features."""
    groups = Feature.objects.order_by("kind", "model_name").values_list("kind", "model_name")
    return [_state(kind, model, count) for kind, model, count in groups.annotate(Count("id"))]


def rebuild(progress: Progress) -> list[Stamp]:
    """Build the index file of each catalogue that is large enough. Raises IndexFileError.

    Waits while another process builds.
    """
    with _build_lock(wait=True):
        stamps = [
            building.build(state.kind, state.model, progress)
            for state in states()
            if state.features >= MIN_VECTORS_FOR_ANN
        ]
        _remove_unused()
    return stamps


def maintain() -> list[Stamp]:
    """Build the index files that are stale and prune the log, unless another process builds.

    Raises IndexFileError.
    """
    with _build_lock(wait=False) as is_locked:
        if not is_locked:
            return []
        stamps = [building.build(state.kind, state.model, no_progress) for state in states() if state.is_stale]
        _remove_unused()
    return stamps


def request_maintenance() -> None:
    """Have ``maintain`` run soon: in a worker, or in a thread if no broker is configured."""
    global _requested_at
    if time.monotonic() - _requested_at < _REQUEST_INTERVAL_SECONDS:
        return
    _requested_at = time.monotonic()
    if not settings.HAS_BROKER:
        threading.Thread(target=_maintain_in_thread, daemon=True, name="index-maintenance").start()
        return
    maintenance_due.send(sender=SegmentState)


_requested_at = float("-inf")


def _maintain_in_thread() -> None:
    try:
        maintain()
    except IndexFileError as error:
        logger.warning("Search stays exact and is slow: %s", error)
    finally:
        connection.close()


def _state(kind: str, model: str, features: int) -> SegmentState:
    try:
        stamp = main_file.read_current_stamp(kind, model, MAX_LOG_ROWS)
    except IndexFileError as error:
        return SegmentState(kind, model, features, None, error, 0)
    changed = changes.count(stamp.revision, kind, model)
    return SegmentState(kind, model, features, stamp, None, changed)


def _remove_unused() -> None:
    """Remove unused index files, and log rows that all index files already include."""
    used: list[Stamp] = []
    for state in states():
        if state.stamp is not None and state.features < MIN_VECTORS_FOR_ANN // 2:
            main_file.remove_files(state.kind, state.model)
        elif state.stamp is not None:
            used.append(state.stamp)
    folders = {main_file.folder_of(stamp.kind, stamp.model) for stamp in used}
    for folder in Path(settings.INDEX_DIR).iterdir():
        if folder.is_dir() and folder not in folders:
            shutil.rmtree(folder)
    changes.prune(min([changes.latest_revision().id - MIN_LOG_ROWS, *(stamp.revision.id for stamp in used)]))


@contextmanager
def _build_lock(wait: bool) -> Iterator[bool]:
    """Lock the index folder. Without ``wait``, yield False if another process has the lock."""
    path = Path(settings.INDEX_DIR) / "lock"
    try:
        files.make_folder(path.parent)
        file = files.open_to_append(path)
    except OSError as error:
        raise IndexFileError("base_not_written", f"The folder of the index cannot be written: {error}") from error
    with file:
        is_locked = locks.lock(file, locks.LOCK_EX if wait else locks.LOCK_EX | locks.LOCK_NB)
        yield is_locked
        if is_locked:
            locks.unlock(file)
