"""Work that a person started on a page: a thread of the web process does it, however long the page is open.

The thread that holds the row's token says every second that it is at work. When its process was stopped, the row falls
silent, and another thread may take it over.
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

from core.history.recording import ChangeSource, acting_as

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
STALE_AFTER = timedelta(seconds=60)
RETENTION = timedelta(days=1)
FAILED = "failed"  # a state that all work has


class SupersededError(Exception):
    """Somebody else does this work now, or it was stopped or discarded."""


class BackgroundJob(models.Model):
    """What is kept of it. A model of some work adds its states, of which AT_WORK are those with a thread."""

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
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    @property
    def is_stale(self) -> bool:
        """Whether nobody works on it any more, though it is not done: its process was stopped."""
        return self.is_active and self.heartbeat_at < timezone.now() - STALE_AFTER

    def start(self, do: Callable[[], None], by: ChangeSource) -> None:
        """``do`` it in a thread of its own and the person's language; what it changes is theirs, by this way."""
        name, language = f"{self._meta.model_name} {self.pk}", get_language()
        threading.Thread(target=self._work, args=(do, by, language), name=name, daemon=True).start()

    def take_over(self) -> bool:
        """Make it this thread's when it is silent; False when somebody works on it."""
        if not self.is_stale:
            return False
        # The token decides between two that try at once.
        won = self._mine().update(token=uuid.uuid4(), heartbeat_at=timezone.now())
        if won:
            self.refresh_from_db()
        return bool(won)

    def heartbeat(self, **values: object) -> None:
        """Say that it is at work, and how far it is. Raises SupersededError."""
        if not self._mine().update(heartbeat_at=timezone.now(), **values):
            raise SupersededError

    def end(self, state: str, error: str = "") -> None:
        self._mine().update(state=state, error=error, heartbeat_at=timezone.now())

    def _mine(self) -> models.QuerySet[BackgroundJob]:
        mine: models.QuerySet[BackgroundJob] = type(self)._default_manager.filter(pk=self.pk, token=self.token)
        return mine

    def _work(self, do: Callable[[], None], by: ChangeSource, language: str | None) -> None:
        try:
            with override(language), acting_as(by, self.user):
                do()
        except SupersededError:
            logger.info("%s was left to somebody else", threading.current_thread().name)
        except Exception:
            logger.exception("%s failed", threading.current_thread().name)
            with override(language):
                self.end(FAILED, _("Something went wrong that should not have. What was done until then stays done."))
        finally:
            connection.close()
