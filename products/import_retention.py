"""What is kept of imports, and when it is forgotten: after a day, or when its person discards it."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from core.jobs import RETENTION, STALE_AFTER
from products.models import Import


def discard(job: Import) -> None:
    """Forget the import with its files; one that is at work stops. What it has imported stays."""
    folder = job.folder
    Import.objects.filter(pk=job.pk).delete()
    shutil.rmtree(folder, ignore_errors=True)


def delete_expired() -> None:
    """Forget what is older than a day, and folders that no import owns."""
    now = timezone.now()
    Import.objects.filter(created_at__lt=now - RETENTION, heartbeat_at__lt=now - STALE_AFTER).delete()
    root = Path(settings.IMPORTS_ROOT)
    # The folders are listed first: an import is saved before its folder is made.
    folders = list(root.iterdir()) if root.is_dir() else []
    owned = {pk.hex for pk in Import.objects.values_list("pk", flat=True)}
    for folder in folders:
        if folder.name not in owned:
            shutil.rmtree(folder, ignore_errors=True)
