"""Say answers, probabilities and evidence to people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from django.utils.translation import gettext as _

from matching.answers.answering import Answer, WeighedEvidence
from matching.evidence.items import Direction

Item = TypeVar("Item", WeighedEvidence, dict[str, object])


def answer_in_words(
    answer: str | None, not_in_catalogue: float | None, candidates: Iterable[tuple[object, float | None]]
) -> str:
    """Return the answer as a sentence, or "" without probabilities. ``candidates``: each with its probability."""
    if not_in_catalogue is None:
        return ""
    best, share = max(
        ((candidate, share or 0.0) for candidate, share in candidates), key=lambda pair: pair[1], default=(None, 0.0)
    )
    facts = {"name": best, "share": percent(share), "none": percent(not_in_catalogue)}
    if answer == Answer.SAME and best is not None:
        return _("Probably the same as %(name)s (%(share)s).") % facts
    if answer == Answer.NEW:
        return _("Probably not in the catalogue (%(none)s).") % facts
    if best is None:
        return _("Please check: %(none)s likely not in the catalogue.") % facts
    return _("Please check: %(share)s likely the same as %(name)s, %(none)s likely not in the catalogue.") % facts


def percent(share: float) -> str:
    """Return a probability as a whole percentage, without calling a guess certain."""
    if 0 < share < 0.005:
        return "<1\u00a0%"
    if 0.995 < share < 1:
        return ">99\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def strongest(evidence: Sequence[Item]) -> list[Item]:
    """Return the first item for and the first against. The strongest come first."""
    found = (next((item for item in evidence if _direction(item) == direction), None) for direction in Direction)
    return [item for item in found if item is not None]


def _direction(item: WeighedEvidence | dict[str, object]) -> object:
    return item.direction if isinstance(item, WeighedEvidence) else item["direction"]
