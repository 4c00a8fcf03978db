"""Delete many rows in a background job, in steps of one transaction each.

A step deletes rows with everything that refers to them, writes the history and counts. Steps are short, so that
uploads are saved in between. A stopped job has deleted whole rows only.
"""

from __future__ import annotations

import uuid
from collections import Counter
from functools import partial
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import QuerySet

from core import clock
from core.database.batches import iter_batches
from core.deletion import delete_rows
from core.history.recording import ChangeSource
from core.jobs import RETENTION, STALE_AFTER
from products.models import Deletion, DeletionStep

INLINE_LIMIT = 500  # rows deleted within the request, which takes about a second
BATCH_SIZE = 200  # rows deleted in one step


def start(user: AbstractBaseUser, rows: QuerySet[Any]) -> Deletion:
    """Start to delete these rows in the name of ``user``. Skip rows gone by then."""
    delete_expired()
    ids = list(rows.order_by("pk").values_list("pk", flat=True))
    with transaction.atomic():
        job = Deletion.objects.create(user_id=user.pk, label=rows.model._meta.label, total=len(ids))
        steps = (DeletionStep(deletion=job, ids=list(batch)) for batch in iter_batches(ids, BATCH_SIZE))
        DeletionStep.objects.bulk_create(steps)
    job.start(partial(_delete, job), ChangeSource.ADMIN)
    return job


def resume(job: Deletion) -> bool:
    """Resume a deletion whose process stopped. Return False if another thread runs it."""
    if not job.take_over():
        return False
    job.start(partial(_delete, job), ChangeSource.ADMIN)
    return True


def stop(job: Deletion) -> bool:
    """Stop the job and keep the remaining rows. Return False if the job does not run."""
    running = Deletion.objects.filter(pk=job.pk, state=Deletion.State.RUNNING)
    with transaction.atomic():
        updated = running.update(state=Deletion.State.STOPPED, token=uuid.uuid4())
        if updated:
            job.steps.all().delete()
    return bool(updated)


def delete_expired() -> None:
    """Delete jobs older than a day."""
    Deletion.objects.filter(clock.over("created_at", RETENTION), clock.over("heartbeat_at", STALE_AFTER)).delete()


def _delete(job: Deletion) -> None:
    """Raises SupersededError."""
    rows: Any = job.model._default_manager
    counts, done = Counter(job.counts), job.done
    while (step := job.steps.order_by("pk").first()) is not None:
        with transaction.atomic():
            counts.update(delete_rows(rows.filter(pk__in=step.ids))[1])
            done += len(step.ids)
            job.heartbeat(done=done, counts=dict(counts))
            step.delete()
    job.end(Deletion.State.DONE)
