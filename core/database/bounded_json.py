"""Parse JSON from outside, whose nesting may otherwise exhaust Python's stack."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_NESTING = 32

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def is_nested_deeper(text: str, limit: int) -> bool:
    """Return whether the lists and objects of a JSON text have more than ``limit`` levels."""
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
        elif first in "]}":
            depth -= 1
        if depth > limit:
            return True
    return False


class BoundedJSONDecoder(json.JSONDecoder):
    """Raise JSONDecodeError also for deep nesting and for numbers with thousands of digits."""

    def decode(self, s: str, *args: Any) -> Any:
        if is_nested_deeper(s, MAX_NESTING):
            raise json.JSONDecodeError(f"More than {MAX_NESTING} levels of lists and objects", s, 0)
        try:
            return super().decode(s, *args)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise json.JSONDecodeError(str(error), s, 0) from error
