"""What each part of the installation takes on the disk, for ``doctor`` and ``/metrics``."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from core.column_sizes import text_bytes
from core.disk import folder_bytes
from core.history.retention import history_bytes
from products import quotas
from products.models import DeletionStep, Import

MAX_AGE_SECONDS = 300.0

_lock = threading.Lock()
_recent: tuple[float, dict[str, int]] | None = None


def measure() -> dict[str, int]:
    """Return the bytes of each part.

    ``images`` includes ``thumbnails``, as its quota does. ``history`` and ``jobs`` are parts of ``database``. Image
    files are not looked at: their sizes are in the database.
    """
    images = quotas.image_bytes()
    return {
        "database": _database_bytes(),
        "images": images["images"] + images["thumbnails"],
        "thumbnails": images["thumbnails"],
        "originals": images["originals"],
        "imports": quotas.import_bytes(),
        "history": history_bytes(),
        "index": folder_bytes(Path(settings.INDEX_DIR)),
        "jobs": _job_bytes(),
    }


def recent() -> dict[str, int]:
    """Return what ``measure`` returned in this process within the last minutes."""
    global _recent  # Prometheus asks every few seconds, and reading the history takes up to a second
    with _lock:
        if _recent is None or time.monotonic() - _recent[0] > MAX_AGE_SECONDS:
            _recent = (time.monotonic(), measure())
        return _recent[1]


def _database_bytes() -> int:
    if connection.vendor == "sqlite":
        path = str(connection.settings_dict["NAME"])
        files = (Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm"))
        return sum(file.stat().st_size for file in files if file.is_file())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def _job_bytes() -> int:
    steps: int | None = DeletionStep.objects.aggregate(taken=Sum(text_bytes(["ids"])))["taken"]
    imports: int | None = Import.objects.order_by().aggregate(taken=Sum(text_bytes(["columns", "counts"])))["taken"]
    return (steps or 0) + (imports or 0)
