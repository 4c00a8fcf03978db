"""Guess which columns the header of a table means."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from django.utils.translation import gettext as _


def suggest_column(column: str, names: Collection[str]) -> str:
    """Return the name that a column of the header probably means, or ""."""
    words = column.lower().replace("_", " ").split()
    inside = next((name for name in names if name.replace("_", " ") in words), "")
    return inside or next(iter(get_close_matches(column.lower(), names, n=1, cutoff=0.7)), "")


def missing_columns_message(file: str, missing: Sequence[str], columns: Sequence[str]) -> str:
    """Return a sentence on missing columns, the header and likely typing errors."""
    text = _("%(file)s has no column %(names)s. Its first row must name the columns; it reads: %(read)s.") % {
        "file": file,
        "names": _(" and no column ").join(missing),
        "read": _shortened(columns) or _("nothing"),
    }
    guesses = [(column, name) for column in columns if (name := suggest_column(column, missing))]
    pairs = [_("“%(column)s” as %(name)s") % {"column": column, "name": name} for column, name in guesses]
    return " ".join([text, _("Was %s meant?") % _(" and ").join(pairs)]) if pairs else text


def _shortened(columns: Sequence[str]) -> str:
    text = ", ".join(columns)
    return text if len(text) <= 300 else f"{text[:300]}…"
