"""Background jobs started from a page. They survive a closed tab and a restart of the server.

A thread of the web process runs the job and writes a heartbeat into its row every second. If the process stops, the
job becomes stale and another thread can take it over. The token in the row says which thread owns the job.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import connection, models
from django.utils import timezone
from django.utils.translation import get_language, gettext_lazy, override
from django.utils.translation import gettext as _

from core import clock
from core.history.recording import ChangeSource, acting_as
from core.outages import DATABASE_OUTAGES

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
STALE_AFTER = timedelta(seconds=60)
RETENTION = timedelta(days=1)
MAX_ERROR_LENGTH = 2000  # characters
FAILED = "failed"  # a state that every kind of job has


class SupersededError(Exception):
    """Another thread took the job over, or a user stopped or discarded it."""


class BackgroundJob(models.Model):
    """The row of a job.

    Subclasses add their states. ACTIVE lists the states in which a thread runs.
    """

    ACTIVE: ClassVar[tuple[str, ...]]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        verbose_name=gettext_lazy("user"),
        db_column="person_id",
    )
    state = models.CharField(gettext_lazy("state"), max_length=10)
    error = models.TextField(gettext_lazy("error"), blank=True, default="")
    token = models.UUIDField(gettext_lazy("claim"), default=uuid.uuid4)
    heartbeat_at = models.DateTimeField(gettext_lazy("last heartbeat"), default=timezone.now, db_column="beat_at")
    created_at = models.DateTimeField(gettext_lazy("created"), auto_now_add=True)

    class Meta:
        abstract = True

    @property
    def history_reference(self) -> str:
        """Return what the history keeps to find the changes of this job again, if anything."""
        return ""

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    @property
    def is_stale(self) -> bool:
        """Whether the job is unfinished but its process has stopped."""
        return self.is_active and clock.is_over(self.heartbeat_at, STALE_AFTER)

    def start(self, do: Callable[[], None], by: ChangeSource) -> None:
        """Run ``do`` in a thread, in the user's language.

        The history names the user and the source ``by``.
        """
        name, language = f"{self._meta.model_name} {self.pk}", get_language()
        threading.Thread(target=self._run, args=(do, by, language), name=name, daemon=True).start()

    def take_over(self) -> bool:
        """Claim a stale job for this thread. Return False if another thread runs it."""
        if not self.is_stale:
            return False
        # If two threads try at once, the token lets one of them win.
        won = self._owned_row().update(token=uuid.uuid4(), heartbeat_at=timezone.now())
        if won:
            self.refresh_from_db()
        return bool(won)

    def heartbeat(self, **values: object) -> None:
        """Store the heartbeat and the progress in ``values``. Raises SupersededError."""
        if not self._owned_row().update(heartbeat_at=timezone.now(), **values):
            raise SupersededError

    def end(self, state: str, error: str = "") -> None:
        self._owned_row().update(state=state, error=error[:MAX_ERROR_LENGTH], heartbeat_at=timezone.now())

    def _owned_row(self) -> models.QuerySet[BackgroundJob]:
        rows: models.QuerySet[BackgroundJob] = type(self)._default_manager.filter(pk=self.pk, token=self.token)
        return rows

    def _run(self, do: Callable[[], None], by: ChangeSource, language: str | None) -> None:
        try:
            with override(language), acting_as(by, self.user, self.history_reference):
                do()
        except SupersededError:
            logger.info("%s was taken over or stopped", threading.current_thread().name)
        except DATABASE_OUTAGES:
            # Its page resumes it when it is stale and the database responds again.
            logger.exception("%s lost the database", threading.current_thread().name)
        except Exception:
            logger.exception("%s failed", threading.current_thread().name)
            with override(language):
                self.end(FAILED, _("An unexpected error stopped this job. What it did until then was kept."))
        finally:
            connection.close()
