"""Learn a head from the catalogue and from verdicts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from matching.learning.training import TrainingError, train_and_store
from products.model_versions import VersionError
from products.models import Product


class Command(BaseCommand):
    help = (
        "Learn a head: a linear map that makes views of one product alike, from the images of the catalogue and from "
        "confirmed matches. It is compared with the version in use on products that it did not learn from, and kept "
        "in the shadow. Exit code 0: learned; 1: too little to learn from."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from-views", action="store_true", help="learn only from the images of the catalogue")
        parser.add_argument("--from-decisions", action="store_true", help="learn only from confirmed matches")
        parser.add_argument("--models", metavar="A,B,legacy", help="what it joins; default: the CLIP model and legacy")
        parser.add_argument("--adopt", action="store_true", help="switch to it if it is better by more than its noise")
        parser.add_argument("--json", dest="report", type=Path, metavar="PATH", help="also write the figures here")

    def handle(
        self, *, from_views: bool, from_decisions: bool, models: str | None, adopt: bool, report: Path | None, **_: Any
    ) -> None:
        os.nice(10)  # searches on the same machine go first
        chosen = [name.strip() for name in models.split(",") if name.strip()] if models is not None else None
        both = from_views == from_decisions  # neither means both
        total = Product.objects.filter(is_historical=True).count()
        try:
            with interruptible() as check, progress_bar(total, "Learning", "products") as bar:

                def progress(products: int) -> None:
                    bar.update(products)
                    check()

                figures = train_and_store(
                    chosen, from_views=both or from_views, from_decisions=both or from_decisions, adopt=adopt,
                    progress=progress,
                )  # fmt: skip
        except (TrainingError, VersionError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as interrupt:
            raise CommandError("Stopped. Nothing was changed.", returncode=EXIT_INTERRUPTED) from interrupt
        self._show(figures)
        if report is not None:
            try:
                report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{report} cannot be written: {error.strerror}.") from error

    def _show(self, figures: dict[str, Any]) -> None:
        self.stdout.write(f"{figures['version']}, from {figures['views']:,} views of {figures['products']:,} products")
        before, after = figures["before"], figures["after"]
        for name in after:
            self.stdout.write(
                f"{name:10} {before[name]:.3f} with {figures['compared_with']}, {after[name]:.3f} with it"
            )
        self.stdout.write(f"The gain of mrr is {figures['gain']:+.3f}, its standard error {figures['noise']:.3f}.")
        for category, figure in figures["by_category"].items():
            if figure["gain"] < -figure["noise"]:
                self.stdout.write(
                    f"In the category {category} it is worse: {figure['gain']:+.3f}, noise {figure['noise']:.3f}."
                )
        if figures["adopted"]:
            self.stdout.write("It answers from now on. `manage.py rollback_model` goes back.")
        elif figures["wins"]:
            self.stdout.write(f"It is better. `manage.py switch_model {figures['version']}` lets it answer.")
        else:
            self.stdout.write("It is not better by more than the noise. It stays in the shadow.")
