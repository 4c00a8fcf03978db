"""Deletions of many rows, which run as background jobs, and their progress."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.jobs import BackgroundJob


class Deletion(BackgroundJob):
    class State(models.TextChoices):
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        STOPPED = "stopped", _("stopped")
        FAILED = "failed", _("failed")

    ACTIVE = (State.RUNNING,)

    label = models.CharField(_("model"), max_length=100)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.RUNNING)
    total = models.PositiveIntegerField(_("rows"))
    done = models.PositiveIntegerField(_("rows so far"), default=0)
    counts = models.JSONField(_("deleted so far"), default=dict)

    class Meta:
        db_table = "deletions"
        verbose_name = _("deletion")
        verbose_name_plural = _("deletions")
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.model._meta.verbose_name_plural}: {self.total}"

    @property
    def model(self) -> type[models.Model]:
        """Return the model of the rows."""
        return apps.get_model(self.label)

    @property
    def deleted(self) -> list[tuple[str, int]]:
        """Return (plural name, deleted rows) of each model, the job's own first.

        Omit models without a history, which users never see.
        """
        counts = sorted(self.counts.items(), key=lambda item: item[0] != self.label)
        models_and_counts: list[tuple[Any, int]] = [(apps.get_model(label), count) for label, count in counts]
        return [
            (str(model._meta.verbose_name_plural), count)
            for model, count in models_and_counts
            if hasattr(model, "history")
        ]


class DeletionStep(models.Model):
    """Rows that one transaction deletes, together with this row."""

    deletion = models.ForeignKey(Deletion, on_delete=models.CASCADE, related_name="steps", verbose_name=_("deletion"))
    ids = models.JSONField(_("rows"))

    class Meta:
        db_table = "deletion_steps"
        verbose_name = _("step of a deletion")
        verbose_name_plural = _("steps of a deletion")

    def __str__(self) -> str:
        return f"{self.deletion}, {self.ids[0]}–{self.ids[-1]}"
