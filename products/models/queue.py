"""The queue's pause switch, and the number of images embedded on each day."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class QueueSwitch(models.Model):
    """The single row that pauses the queue. Without it, the queue is not paused."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    paused = models.BooleanField(_("paused"), default=False)
    changed_at = models.DateTimeField(_("changed"))
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("changed by"),
    )  # fmt: skip

    class Meta:
        db_table = "queue_switch"
        verbose_name = _("queue switch")
        verbose_name_plural = _("queue switches")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="queue_has_one_switch")]

    def __str__(self) -> str:
        return str(_("paused") if self.paused else _("working"))


class EmbeddingDay(models.Model):
    """Number of images embedded on a day in the server's time zone.

    An image that is embedded again counts again.
    """

    day = models.DateField(_("day"), primary_key=True)
    pictures = models.PositiveBigIntegerField(_("images"), default=0)

    class Meta:
        db_table = "embedding_days"
        verbose_name = _("day of embedding")
        verbose_name_plural = _("days of embedding")

    def __str__(self) -> str:
        return f"{self.day}: {self.pictures}"
