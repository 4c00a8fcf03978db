"""The preference of the nightly self-audit."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from products import preferences

NIGHTLY = preferences.declare(
    "quality.self_audit_nightly",
    _("Quality"),
    True,
    lambda: forms.BooleanField(
        label=_("Check the answers each night"),
        required=False,
        help_text=_("Altered copies of catalogue images are searched, and left-out products too. Nothing is stored."),
    ),
)
