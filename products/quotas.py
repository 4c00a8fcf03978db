"""How much the parts of the catalogue take, and whether there is room for more.

The free space is looked up for each request. What a part takes is measured at most once a minute in each process,
and each process adds what it stores itself in between. So several processes can exceed a quota by what they store
in a minute. The reserve of free space has no such delay.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from core import disk
from core.disk import NoRoomError
from core.history import retention
from products.images.cleaning import CleanImage
from products.models import ProductImage

MAX_AGE_SECONDS = 60.0
LABELS: dict[str, str | Promise] = {
    "images": gettext_lazy("The images"),
    "originals": gettext_lazy("The kept originals"),
    "imports": gettext_lazy("The uploads of imports"),
    "history": gettext_lazy("The history"),
}


@dataclass(slots=True)
class _Measurement:
    bytes: int
    at: float  # time.monotonic


_measurements: dict[str, _Measurement] = {}
_lock = threading.Lock()


def require_room_for_images(images: Collection[CleanImage]) -> None:
    """Raise NoRoomError if these images cannot be stored."""
    originals = sum(len(image.original or b"") for image in images)
    stored = sum(len(image.jpeg) + len(image.thumbnail) for image in images)
    for folder, coming in ((settings.MEDIA_ROOT, stored), (settings.ORIGINALS_ROOT, originals)):
        disk.require_free(Path(folder), coming)
    _require_free_for_database()
    _require_quota("images", stored)
    if originals:
        _require_quota("originals", originals)
    _require_quota("history", 0)


def require_room_for_import(coming: int) -> None:
    """Raise NoRoomError if the uploaded files of an import, or more of its results, cannot be stored."""
    disk.require_free(Path(settings.IMPORTS_ROOT), coming)
    _require_quota("imports", coming)


def require_room_for_history() -> None:
    """Raise NoRoomError if another change cannot be recorded."""
    _require_free_for_database()
    _require_quota("history", 0)


def image_bytes() -> dict[str, int]:
    """Return what images, thumbnails and originals take, without looking at the files."""
    columns = {"images": "file_bytes", "thumbnails": "thumbnail_bytes", "originals": "original_bytes"}
    sums = ProductImage.objects.order_by().aggregate(**{part: Sum(column) for part, column in columns.items()})
    return {part: total or 0 for part, total in sums.items()}


def import_bytes() -> int:
    """Return what the files and results of imports take. They are few, because they stay for a day."""
    return disk.folder_bytes(Path(settings.IMPORTS_ROOT))


def _measure(part: str) -> int:
    match part:
        case "images":
            sizes = image_bytes()
            return sizes["images"] + sizes["thumbnails"]
        case "originals":
            return image_bytes()["originals"]
        case "imports":
            return import_bytes()
        case _:
            return retention.history_bytes()


def _require_free_for_database() -> None:
    """Check the disk of SQLite's file. PostgreSQL's disk is out of reach."""
    if connection.vendor == "sqlite":
        disk.require_free(Path(settings.DATA_DIR))


def _require_quota(part: str, coming: int) -> None:
    quota = settings.QUOTA_BYTES[part]
    if not quota:
        return
    with _lock:
        measurement = _measurements.get(part)
        is_old = measurement is None or time.monotonic() - measurement.at > MAX_AGE_SECONDS
        # Before a refusal, measure again: something may have been deleted.
        if measurement is None or is_old or measurement.bytes + coming > quota:
            measurement = _measurements[part] = _Measurement(_measure(part), time.monotonic())
        if measurement.bytes + coming > quota:
            text = _(
                "%(part)s may take %(quota)s MiB and take %(taken)s MiB already. Nothing more is stored until some "
                "are deleted or the quota is raised."
            )
            values = {
                "part": LABELS[part],
                "quota": f"{quota / disk.MEBIBYTE:,.1f}",
                "taken": f"{measurement.bytes / disk.MEBIBYTE:,.1f}",
            }
            raise NoRoomError(disk.QUOTA_EXCEEDED, text % values)
        measurement.bytes += coming
