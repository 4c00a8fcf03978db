"""Escape what could forge a line of a log or change how a terminal shows it."""

from __future__ import annotations

import json


def escape(text: str) -> str:
    """Return the text in one line, with each character that does not print as ``\\n``, ``\\x1b`` or ``\\u2028``.

    These are line ends, controls (also of terminals), marks that change the direction of text, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def escape_json(text: str) -> str:
    """Escape the same characters in a JSON document without line ends, which stays the same document."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
