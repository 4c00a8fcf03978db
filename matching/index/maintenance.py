"""When base files are built, replaced and removed, and how far back the change log is kept."""

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

from matching.index import building, changes, main_file
from matching.index.main_file import IndexFileError, Stamp
from matching.index.types import Progress, no_progress
from products.models import Feature

logger = logging.getLogger(__name__)

# Sent when a main segment is due and a broker is configured: a worker should run ``upkeep``.
maintenance_due = Signal()

# Vectors from which a catalogue gets a base file; comparing fewer one by one takes under 3 ms (benchmarks/search.py).
MIN_VECTORS_FOR_ANN = 25_000
# A base file is replaced when so many of its vectors changed, and so much of it.
MIN_CHANGED_ROWS, MIN_CHANGED_SHARE = 10_000, 0.05
# Rows of the log that are kept for processes without a base file, and at most for an old base file.
LOG_ROWS_KEPT, MAX_LOG_ROWS = 10_000, 1_000_000
_REQUEST_INTERVAL_SECONDS = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class SegmentState:
    """One kind and model: stored features, its base file if it is usable, why not, and what changed since."""

    kind: str
    model: str
    features: int
    stamp: Stamp | None
    problem: IndexFileError | None
    changed: int

    @property
    def due(self) -> bool:
        """Whether a base file should be built."""
        if self.features < MIN_VECTORS_FOR_ANN:
            return False
        return self.stamp is None or has_outgrown(self.changed, self.stamp)


def has_outgrown(changed: int, stamp: Stamp) -> bool:
    """Whether so much changed since a base file was built that it should be built anew."""
    return changed > max(MIN_CHANGED_ROWS, MIN_CHANGED_SHARE * stamp.count)


def states() -> list[SegmentState]:
    """Every kind and model that has features."""
    counted = Feature.objects.order_by("kind", "model_name").values_list("kind", "model_name")
    return [_state(kind, model, number) for kind, model, number in counted.annotate(Count("id"))]


def rebuild(progress: Progress) -> list[Stamp]:
    """Build the base file of every catalogue that is large enough for one. Raises BaseFileError.

    Waits for another process that is building.
    """
    with _one_builder(wait=True):
        stamps = [
            building.build(state.kind, state.model, progress)
            for state in states()
            if state.features >= MIN_VECTORS_FOR_ANN
        ]
        _remove_unused()
    return stamps


def maintain() -> list[Stamp]:
    """Build the base files that are due, unless another process is at it; prune the log. Raises BaseFileError."""
    with _one_builder(wait=False) as free:
        if not free:
            return []
        stamps = [building.build(state.kind, state.model, no_progress) for state in states() if state.due]
        _remove_unused()
    return stamps


def request_maintenance() -> None:
    """Have ``upkeep`` run soon and elsewhere: by a worker, or by a thread where no broker is configured."""
    global _requested_at
    if time.monotonic() - _requested_at < _REQUEST_INTERVAL_SECONDS:
        return
    _requested_at = time.monotonic()
    if not settings.HAS_BROKER:
        threading.Thread(target=_in_background, daemon=True, name="index upkeep").start()
        return
    maintenance_due.send(sender=SegmentState)


_requested_at = float("-inf")


def _in_background() -> None:
    try:
        maintain()
    except IndexFileError as error:
        logger.warning("Search stays exact and slow. %s", error)
    finally:
        connection.close()


def _state(kind: str, model: str, features: int) -> SegmentState:
    try:
        stamp = main_file.read_stamp(kind, model)
        if not changes.is_known(stamp.revision) or changes.latest_revision().id - stamp.revision.id > MAX_LOG_ROWS:
            raise IndexFileError("base_foreign", "The base file is older than the change log, or of other data.")
    except IndexFileError as error:
        return SegmentState(kind, model, features, None, error, 0)
    changed = changes.count(stamp.revision, kind, model)
    return SegmentState(kind, model, features, stamp, None, changed)


def _remove_unused() -> None:
    """Remove base files that nobody needs, and the part of the log that every base file has behind it."""
    kept: list[Stamp] = []
    for state in states():
        if state.stamp is not None and state.features < MIN_VECTORS_FOR_ANN // 2:
            main_file.remove_files(state.kind, state.model)
        elif state.stamp is not None:
            kept.append(state.stamp)
    folders = {main_file.folder_of(stamp.kind, stamp.model) for stamp in kept}
    for folder in Path(settings.INDEX_DIR).iterdir():
        if folder.is_dir() and folder not in folders:
            shutil.rmtree(folder)
    changes.prune(min([changes.latest_revision().id - LOG_ROWS_KEPT, *(stamp.revision.id for stamp in kept)]))


@contextmanager
def _one_builder(wait: bool) -> Iterator[bool]:
    """Hold the lock of the index folder; answers False where it is taken and ``wait`` is not wanted."""
    path = Path(settings.INDEX_DIR) / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise IndexFileError("base_not_written", f"The folder of the index cannot be written: {error}") from error
    with file:
        taken = locks.lock(file, locks.LOCK_EX if wait else locks.LOCK_EX | locks.LOCK_NB)
        yield taken
        if taken:
            locks.unlock(file)
