"""What somebody sent to be imported, from the upload to the result; its files lie in a folder of its own."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

SILENT = timedelta(seconds=60)  # whoever works on an import says so every second


class Import(models.Model):
    class State(models.TextChoices):
        CHECKING = "checking", _("being checked")
        CHECKED = "checked", _("checked")
        RUNNING = "running", _("being imported")
        DONE = "done", _("imported")
        FAILED = "failed", _("failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("person")
    )
    table_name = models.CharField(_("table"), max_length=255, blank=True, default="")
    archive_name = models.CharField(_("ZIP"), max_length=255, blank=True, default="")
    is_historical = models.BooleanField(_("historical"), default=False)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.CHECKING)
    columns = models.JSONField(_("columns"), default=list)
    total = models.PositiveIntegerField(_("rows"), null=True)
    counts = models.JSONField(_("results so far"), default=dict)
    error = models.TextField(_("error"), blank=True, default="")
    token = models.UUIDField(_("claim"), default=uuid.uuid4)
    beat_at = models.DateTimeField(_("last sign of work"), default=timezone.now)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        db_table = "imports"
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return " + ".join(filter(None, [self.table_name, self.archive_name]))

    @property
    def folder(self) -> Path:
        return Path(settings.IMPORTS_ROOT) / self.pk.hex

    @property
    def is_at_work(self) -> bool:
        return self.state in (self.State.CHECKING, self.State.RUNNING)

    @property
    def is_silent(self) -> bool:
        """Whether nobody works on it any more, though it is not done: its process was stopped."""
        return self.is_at_work and self.beat_at < timezone.now() - SILENT

    @property
    def done(self) -> int:
        """Rows that have a result."""
        return sum(self.counts.values())
