"""Deleting as many rows as a list holds: a few at once, more in the background, step by step and with a count.

A step is one transaction: rows, what hangs on them, their entries in the history and the count go together, and it is
short enough for uploads to come between. Stopped anywhere, some rows are gone and the others are whole.
"""

from __future__ import annotations

import uuid
from collections import Counter
from functools import partial
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from core.deletion import delete_rows
from core.history.recording import ChangeSource
from core.jobs import RETENTION, STALE_AFTER
from products.models import Deletion, DeletionStep

INLINE_LIMIT = 500  # rows that are deleted while a person waits, which takes about a second
BATCH_SIZE = 200


def start(user: AbstractBaseUser, rows: QuerySet[Any]) -> Deletion:
    """Begin to delete these rows in the name of ``person``; what is gone when its step comes is passed over."""
    delete_expired()
    ids = list(rows.order_by("pk").values_list("pk", flat=True))
    with transaction.atomic():
        job = Deletion.objects.create(user_id=user.pk, label=rows.model._meta.label, total=len(ids))
        steps = (ids[first : first + BATCH_SIZE] for first in range(0, len(ids), BATCH_SIZE))
        DeletionStep.objects.bulk_create(DeletionStep(deletion=job, ids=step) for step in steps)
    job.start(partial(_delete, job), ChangeSource.ADMIN)
    return job


def resume(job: Deletion) -> bool:
    """Take up a deletion whose process was stopped; False when somebody works on it."""
    won = job.take_over()
    if won:
        job.start(partial(_delete, job), ChangeSource.ADMIN)
    return won


def stop(job: Deletion) -> bool:
    """Leave the rest undeleted; False when it is not at work (any more)."""
    running = Deletion.objects.filter(pk=job.pk, state=Deletion.State.RUNNING)
    with transaction.atomic():
        won = running.update(state=Deletion.State.STOPPED, token=uuid.uuid4())
        if won:
            job.steps.all().delete()
    return bool(won)


def delete_expired() -> None:
    """Forget what is older than a day."""
    now = timezone.now()
    Deletion.objects.filter(created_at__lt=now - RETENTION, heartbeat_at__lt=now - STALE_AFTER).delete()


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
