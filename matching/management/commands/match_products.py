"""match_products: match new products and save the matches."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.progress import EXIT_INTERRUPTED, interruptible
from matching import batch, service
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
            "--threshold", type=_score, default=service.DEFAULT_THRESHOLD, help="lowest score, 0 to 100 (default 50)"
        )
        parser.add_argument(
            "--limit", type=_count, default=service.DEFAULT_LIMIT, help="most matches for each product (default 10)"
        )

    def handle(self, *, all: bool, ids: list[int] | None, threshold: float, limit: int, **_: Any) -> None:
        if ids is not None:
            product_ids = list(dict.fromkeys(ids))
        else:
            new = Product.objects.filter(is_historical=False).order_by("pk") if all else service.unmatched()
            product_ids = list(new.values_list("pk", flat=True))
        try:
            with interruptible() as check:
                summary = batch.match_products(product_ids, check, threshold, limit)
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
