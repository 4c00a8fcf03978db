"""match_products: match new products and save the matches."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.progress import EXIT_INTERRUPTED, interruptible
from matching import batch
from products.models import Product


class Command(BaseCommand):
    help = (
        "Match new products with the catalogue and save the matches. Verdicts stay. "
        "Exit code 0: all matched; 3: some could not be; 1: none could be; 130: stopped by Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        selection = parser.add_mutually_exclusive_group()
        selection.add_argument("--all", action="store_true", help="all new products, not only the unmatched ones")
        selection.add_argument("--ids", type=int, nargs="+", metavar="ID", help="only these products")
        parser.add_argument(
            "--threshold",
            type=_score,
            help="lowest score, 0 to 100 (default: the setting, or as in the last search of an unmatched product)",
        )
        parser.add_argument("--limit", type=_count, help="most matches for each product (default: the setting)")

    def handle(self, *, all: bool, ids: list[int] | None, threshold: float | None, limit: int | None, **_: Any) -> None:
        try:
            with interruptible() as check:
                if ids is not None:
                    product_ids = list(dict.fromkeys(ids))
                elif all:
                    product_ids = list(
                        Product.objects.filter(is_historical=False).order_by("pk").values_list("pk", flat=True)
                    )
                else:
                    product_ids = batch.unmatched_ids(check)
                is_chosen = all or ids is not None or threshold is not None or limit is not None
                summary = batch.match_products(product_ids, check, threshold, limit, as_before=not is_chosen)
        except KeyboardInterrupt as interrupt:
            raise CommandError(
                "Stopped. `manage.py match_products` matches the remaining products.", returncode=EXIT_INTERRUPTED
            ) from interrupt
        self.stdout.write(f"Matched {summary.matched:,} products.")
        for product_id, reason in summary.failed.items():
            self.stderr.write(f"product {product_id}: {reason}")
        if summary.failed:
            raise CommandError(
                f"{len(summary.failed):,} products could not be matched, see above.",
                returncode=3 if summary.matched else 1,
            )


def _score(text: str) -> float:
    score = float(text)
    if not 0 <= score <= 100:
        raise argparse.ArgumentTypeError("a threshold is a score from 0 to 100")
    return score


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("a limit is at least 1")
    return count
