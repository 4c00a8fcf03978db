"""The results of self-audits."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class SelfAudit(models.Model):
    """One self-audit: how many altered copies of catalogue images were found, and how many false alarms there were.

    Nothing else is stored of it: a planted image is searched like one that a user asks about.
    """

    model_name = models.CharField(_("model version"), max_length=200)
    expected = models.PositiveIntegerField(_("altered copies"))
    found = models.PositiveIntegerField(_("found"))
    left_out = models.PositiveIntegerField(_("left-out products"))
    false_alarms = models.PositiveIntegerField(_("false alarms"))
    # Ids of the catalogue products that were not found (missed), of left-out ones that were taken for another (alarms),
    # and of those that are still to be asked about (waiting).
    report = models.JSONField(_("report"), default=dict)
    is_done = models.BooleanField(_("done"), default=False)
    made_at = models.DateTimeField(_("made"))

    class Meta:
        db_table = "self_audits"
        verbose_name = _("self-audit")
        verbose_name_plural = _("self-audits")
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.made_at:%Y-%m-%d}: {self.found} / {self.expected}"
