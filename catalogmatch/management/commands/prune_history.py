"""prune_history: delete the history entries that the settings do not keep."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from core.history import retention
from matching.review import kept


class Command(BaseCommand):
    help = (
        "Delete the history entries that CATALOGMATCH_HISTORY_DAYS and CATALOGMATCH_QUOTA_HISTORY_MB do not keep. "
        "With beat this happens by itself every ten minutes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--forget-deleted",
            action="store_true",
            help="also forget what was decided on products that are deleted",
        )

    def handle(self, *, forget_deleted: bool, **_: Any) -> None:
        self.stdout.write(f"Deleted {retention.prune():,} entries.")
        if forget_deleted:
            self.stdout.write(f"Forgot the decisions on {kept.forget():,} deleted products.")
