"""Shorten long values of history entries. A hash in what remains shows every change of the value.

Shortening a shortened value changes nothing, so that entries of any age can be compared with each other.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from django.db import models

MAX_TEXT_LENGTH = 2_000  # characters of a text such as a description
MAX_VALUE_LENGTH = 400  # characters of one attribute
MAX_JSON_BYTES = 16 * 2**10  # of all attributes together
REST = "…"  # the name that stands for all attributes beyond MAX_JSON_BYTES

_MARK_LENGTH = 60
_SHORTENED = re.compile(r"… \((?:and )?[\d,]+ (?:characters|more), [0-9a-f]{12}\)\Z")


def shorten(field: models.Field[Any, Any], value: Any) -> Any:
    """Return a column's value as an entry keeps it."""
    if isinstance(field, models.JSONField):
        return _shorten_attributes(value) if isinstance(value, dict) else _shorten_value(value)
    return _shorten_text(value, MAX_TEXT_LENGTH) if isinstance(field, models.TextField) else value


def is_shortened(text: str) -> bool:
    """Return whether an entry keeps only a part of this value."""
    return _SHORTENED.search(text) is not None


def _shorten_text(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - _MARK_LENGTH]}… ({len(text):,} characters, {_hash(text)})"


def _shorten_value(value: Any) -> Any:
    text = value if isinstance(value, str) else _as_json(value)
    return value if len(text) <= MAX_VALUE_LENGTH else _shorten_text(text, MAX_VALUE_LENGTH)


def _shorten_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    short = {name: _shorten_value(value) for name, value in attributes.items()}
    if len(json.dumps(short)) <= MAX_JSON_BYTES:
        return short
    kept: dict[str, Any] = {}
    room = MAX_JSON_BYTES - 2 * _MARK_LENGTH
    # In the order of the names, because the order of the attributes is not the same in every database.
    for name in sorted(short):
        room -= len(json.dumps({name: short[name]}))
        if room < 0:
            break
        kept[name] = short[name]
    rest = {name: value for name, value in attributes.items() if name not in kept}
    kept[REST] = f"… (and {len(rest):,} more, {_hash(_as_json(rest))})"
    return kept


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
