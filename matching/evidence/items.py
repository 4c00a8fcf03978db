"""Name the kinds of evidence, and say what one item means."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext


class Direction(StrEnum):
    """What an item speaks for."""

    FOR = "for"
    AGAINST = "against"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact about two products.

    ``value`` lies between -1 (against) and 1 (for). None is unknown: the fact says nothing, and counts as nothing.
    ``sentence`` has placeholders for ``facts``, so that it can be translated.
    """

    kind: str
    value: float | None
    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def direction(self) -> Direction:
        if not self.value:
            return Direction.NOTHING
        return Direction.FOR if self.value > 0 else Direction.AGAINST

    @property
    def text(self) -> str:
        """Return the sentence for people, in the language of the request."""
        return gettext(self.sentence) % self.facts


def gettext_noop(sentence: str) -> str:
    """Mark a sentence for translation. Django's function of this name needs settings."""
    return sentence
