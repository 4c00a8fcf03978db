"""What managers set about searches, on the page Settings."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from products.preferences import declare, value

DEFAULT_THRESHOLD = 50.0
DEFAULT_LIMIT = 10
MAX_LIMIT = 100

GROUP = _("Searches")
THRESHOLD = declare(
    "matching.threshold", GROUP, DEFAULT_THRESHOLD,
    lambda: forms.FloatField(
        label=_("Lowest score"), min_value=0, max_value=100,
        help_text=_(
            "Products of the catalogue below this score are no candidates, unless a search names another score. "
            "If many searches find nothing, lower it. Products are matched with it from then on."
        ),
    ),
)  # fmt: skip
LIMIT = declare(
    "matching.limit", GROUP, DEFAULT_LIMIT,
    lambda: forms.IntegerField(
        label=_("Candidates of a case"), min_value=1, max_value=MAX_LIMIT,
        help_text=_("A search returns at most so many candidates, unless it names another number."),
    ),
)  # fmt: skip


def default_threshold() -> float:
    """Return the lowest score of a search that names none."""
    return value(THRESHOLD)


def default_limit() -> int:
    """Return the largest number of candidates of a search that names none."""
    return value(LIMIT)
