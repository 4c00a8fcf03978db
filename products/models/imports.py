"""Imports from the admin. Each has a folder for its files and results."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.jobs import BackgroundJob


class Import(BackgroundJob):
    class State(models.TextChoices):
        CHECKING = "checking", _("being checked")
        CHECKED = "checked", _("checked")
        RUNNING = "running", _("being imported")
        DONE = "done", _("imported")
        FAILED = "failed", _("failed")
        UNDOING = "undoing", _("being taken back")
        UNDONE = "undone", _("taken back")

    ACTIVE = (State.CHECKING, State.RUNNING, State.UNDOING)

    table_name = models.CharField(_("table"), max_length=255, blank=True, default="")
    archive_name = models.CharField(_("ZIP"), max_length=255, blank=True, default="")
    is_historical = models.BooleanField(_("historical"), default=False)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.CHECKING)
    columns = models.JSONField(_("columns"), default=list)
    # What the columns mean, as ``column_choices.describe`` returns it, and what the user chose otherwise.
    recognised = models.JSONField(_("recognised columns"), default=dict)
    chosen = models.JSONField(_("chosen columns"), default=dict)
    total = models.PositiveIntegerField(_("rows"), null=True)
    done = models.PositiveIntegerField(_("rows so far"), default=0)
    counts = models.JSONField(_("results so far"), default=dict)
    group_views = models.BooleanField(_("files are views of products by their names"), default=True)
    undone = models.JSONField(_("taken back so far"), default=dict)
    views = models.JSONField(_("files that became views"), default=dict)

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
    def history_reference(self) -> str:
        """Return the id, by which an import is undone."""
        return str(self.pk)


class ColumnChoice(models.Model):
    """What a user chose for the columns of a header, for the next file of the same header."""

    header = models.CharField(_("SHA-256 of the header"), max_length=64, unique=True)
    chosen = models.JSONField(_("chosen columns"), default=dict)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        db_table = "column_choices"
        verbose_name = _("column choice")
        verbose_name_plural = _("column choices")

    def __str__(self) -> str:
        return self.header
