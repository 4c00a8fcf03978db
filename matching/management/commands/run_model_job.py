"""Do a job that was started on the page Models."""

from __future__ import annotations

import os
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from matching.learning import model_jobs
from matching.models import ModelJob


class Command(BaseCommand):
    help = "Do a job that was started on the page Models. The program runs it by itself."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", type=uuid.UUID)

    def handle(self, *, job: uuid.UUID, **_: Any) -> None:
        found = ModelJob.objects.filter(pk=job, state=ModelJob.State.RUNNING).first()
        if found is None:
            raise CommandError(f"There is no running job {job}.")
        os.nice(10)  # searches on the same machine go first
        model_jobs.run(found)
