"""Changes of the preferences that managers set on a page."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class PreferenceChange(models.Model):
    """One change of one preference. The newest row of a name holds its value. Rows are never changed."""

    name = models.CharField(_("preference"), max_length=80)
    value = models.JSONField(_("value"))
    changed_at = models.DateTimeField(_("changed"))
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("changed by"),
    )  # fmt: skip

    class Meta:
        db_table = "preference_changes"
        verbose_name = _("change of a preference")
        verbose_name_plural = _("changes of preferences")
        indexes = [models.Index(fields=["name", "-id"], name="preference_newest")]

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"
