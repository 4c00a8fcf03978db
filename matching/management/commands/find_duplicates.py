"""find_duplicates: make cases of pairs inside the catalogue that may be the same."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.jobs import SupersededError
from core.progress import EXIT_INTERRUPTED, interruptible, progress_bar
from matching.duplicates import search
from matching.learning import model_jobs
from matching.models import ModelJob


class Command(BaseCommand):
    help = (
        "Find pairs of catalogue products that may be the same, and make them cases for the page Review. Each product "
        "is searched once. Pairs that are decided are not asked again. A stopped search goes on where it was. "
        "Exit code 0: all searched; 3: some could not be; 1: another job runs; 130: stopped by Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--threshold",
            type=_threshold,
            default=search.DEFAULT_THRESHOLD,
            metavar="P",
            help="lowest probability, 0 to 1, or lowest score, above 1 to 100 (default %(default)s). Without "
            "probabilities, see calibrate, a probability P is the score 100·P",
        )

    def handle(self, *, threshold: float, **_: Any) -> None:
        try:
            job = model_jobs.take_duplicates(threshold)
        except model_jobs.BusyError as busy:
            raise CommandError(f"Another job is running: {busy}. Try again when it has ended.") from busy
        try:
            with interruptible() as check, progress_bar(job.total, "Searching", "products") as bar:

                def progress(products: int) -> None:
                    bar.update(products)
                    check()

                report = search.run(job, progress)
        except KeyboardInterrupt as interrupt:
            model_jobs.stop(job)
            raise CommandError(
                "Stopped. `manage.py find_duplicates` with the same threshold goes on from there.",
                returncode=EXIT_INTERRUPTED,
            ) from interrupt
        except SupersededError as error:
            raise CommandError("The search was stopped on the page Duplicates.") from error
        job.heartbeat(report=report, done=job.total)
        job.end(ModelJob.State.DONE)
        self.stdout.write(
            f"Searched {report['products']:,} products: {report['new']:,} new pairs. {report['cases']:,} cases wait."
        )
        if report["skipped"]:
            raise CommandError(
                f"{report['skipped']:,} products have no usable features, see `manage.py doctor`.", returncode=3
            )


def _threshold(text: str) -> float:
    threshold = float(text)
    if not 0 <= threshold <= 100:
        raise argparse.ArgumentTypeError("a threshold is a probability from 0 to 1 or a score up to 100")
    return threshold
