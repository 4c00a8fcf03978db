"""Read the ids of rows from text that a client sent."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import BigIntegerField

MAX_ID = BigIntegerField.MAX_BIGINT


def parse_id(text: str) -> int | None:
    """Return the id that ``text`` names, or None if no row can have it."""
    # int() also takes signs, underscores and other digits, refuses 5,000 digits, and databases end at 64 bits.
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID))):
        return None
    number = int(text)
    return number if number <= MAX_ID else None


def parse_ids(texts: Iterable[str]) -> list[int]:
    """Return the ids among these texts."""
    return [number for text in texts if (number := parse_id(text)) is not None]
