"""prune_history: delete the history entries that the settings do not keep."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from core.history import retention


class Command(BaseCommand):
    help = (
        "Delete the history entries that CATALOGMATCH_HISTORY_DAYS and CATALOGMATCH_QUOTA_HISTORY_MB do not keep. "
        "With beat this happens by itself every ten minutes."
    )

    def handle(self, **_: Any) -> None:
        self.stdout.write(f"Deleted {retention.prune():,} entries.")
