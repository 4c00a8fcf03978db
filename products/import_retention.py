"""Delete imports and their files: after a day, or when their user discards them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import transaction

from core import clock
from core.jobs import RETENTION, STALE_AFTER
from products.models import Import


def discard(job: Import) -> None:
    """Delete the import and its files. A running import stops. Imported products stay."""
    Import.objects.filter(pk=job.pk).delete()
    transaction.on_commit(partial(shutil.rmtree, job.folder, ignore_errors=True))


def delete_expired() -> None:
    """Delete imports older than a day, and folders without an import."""
    Import.objects.filter(clock.over("created_at", RETENTION), clock.over("heartbeat_at", STALE_AFTER)).delete()
    root = Path(settings.IMPORTS_ROOT)
    # List the folders first: an import is saved before its folder is created.
    folders = list(root.iterdir()) if root.is_dir() else []
    owned = {pk.hex for pk in Import.objects.values_list("pk", flat=True)}
    for folder in folders:
        if folder.name not in owned:
            shutil.rmtree(folder, ignore_errors=True)
