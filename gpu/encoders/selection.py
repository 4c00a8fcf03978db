"""Which encoders embed images: the one in use, those that stored versions need, and those that the settings name.

The database decides. CLIP_MODEL is in use only until the first image is embedded. After that a change of it names an
encoder whose vectors are computed in the shadow, until ``switch_model`` lets it answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings
from django.db import Error as DatabaseError

from gpu import heads
from gpu.encoders import registry, weights
from gpu.heads import Head
from gpu.models import EncoderSource, ModelSwitch

logger = logging.getLogger(__name__)

# Separates encoders in the column ``embedded_with``. No name of an ONNX file or hub model contains it.
SEPARATOR = " | "
MAX_NAMES_LENGTH = 200  # characters of that column


@dataclass(frozen=True, slots=True)
class Selected:
    """An encoder. ``name``: stored with its vectors. ``source``: the hub name, folder or ONNX file that is loaded."""

    name: str
    source: str

    @property
    def is_available(self) -> bool:
        """Return whether it can be loaded, and still gives the vectors of this name. Costs a few stat() calls."""
        return registry.is_clip_available(self.source) and weights.model_id(self.source) == self.name


def configured() -> list[Selected]:
    """Return the encoders that the settings name: CLIP_MODEL and CLIP_EXTRA_MODELS."""
    sources = [settings.CLIP_CONFIG["model_name"], *settings.CLIP_CONFIG["extra_models"]]
    return [Selected(weights.model_id(source), source) for source in dict.fromkeys(sources)]


def known() -> dict[str, Selected]:
    """Return the encoders that have embedded images, by name, oldest first. Costs one short query."""
    return {name: Selected(name, source) for name, source in EncoderSource.objects.values_list("name", "source")}


def answering() -> tuple[Head | None, Selected]:
    """Return the head that answers, if any, and the encoder in use. Costs two or three short queries.

    That encoder is the first one of the head, else the one that was switched to last, else the first that embedded an
    image, else CLIP_MODEL.
    """
    return _answering(known(), _newest_switch())


def alone() -> Selected:
    """Return the encoder that answers without a head: the one that was switched to last, else the first."""
    return _alone(known())


def _answering(stored: dict[str, Selected], newest: str) -> tuple[Head | None, Selected]:
    head = heads.load(newest) if newest and newest not in stored else None
    first = next(iter(head.encoders if head is not None else [newest]), "")
    return head, stored[first] if first in stored else _alone(stored)


def _alone(stored: dict[str, Selected]) -> Selected:
    if not stored:
        return configured()[0]
    switched = ModelSwitch.objects.filter(version__in=stored).order_by("-pk").values_list("version", flat=True).first()
    return stored[switched] if switched is not None else next(iter(stored.values()))


def _newest_switch() -> str:
    return ModelSwitch.objects.order_by("-pk").values_list("version", flat=True).first() or ""


def in_use() -> Selected:
    """Return the encoder in use, see ``answering``."""
    return answering()[1]


def source_in_use() -> str:
    """Return what loads the encoder in use. That is CLIP_MODEL before the database is there."""
    try:
        return in_use().source
    except DatabaseError:
        return str(settings.CLIP_CONFIG["model_name"])


def wanted() -> list[Selected]:
    """Return the encoders that every image is embedded with, the one in use first.

    The others are the one that answers without a head, those of all stored heads, that of the version before, and those
    that the settings name. Leaves out encoders whose names do not fit together into the column that records them.
    """
    stored = known()
    switched = dict.fromkeys(ModelSwitch.objects.order_by("-pk").values_list("version", flat=True)[:100])
    _head, answers = _answering(stored, next(iter(switched), ""))
    needed = [answers.name, _alone(stored).name, *(name for head in heads.load_all() for name in head.encoders)]
    needed += [version for version in list(switched)[:2] if version in stored]
    selected = {name: stored[name] for name in needed if name in stored}
    for encoder in configured():
        selected.setdefault(encoder.name, encoder)
    fitting: list[Selected] = []
    for encoder in selected.values():
        if len(joined(other.name for other in [*fitting, encoder])) <= MAX_NAMES_LENGTH:
            fitting.append(encoder)
        else:
            logger.warning("Images are not embedded with %s: the names of all encoders are too long.", encoder.name)
    return fitting


def find(text: str) -> Selected | None:
    """Return the known or configured encoder with this name, source, or name without its fingerprint.

    Return None if there is none, or if several have it.
    """
    encoders = known()
    for encoder in configured():
        encoders.setdefault(encoder.name, encoder)
    if text in encoders:
        return encoders[text]
    short = [encoder for encoder in encoders.values() if encoder.name.rpartition("@")[0] == text]
    same_source = [encoder for encoder in encoders.values() if encoder.source == text]
    current = [encoder for encoder in same_source if weights.model_id(text) == encoder.name]
    matching = current or same_source or short
    return matching[0] if len(matching) == 1 else None


def remember(used: Iterable[Selected]) -> None:
    """Store where these encoders are loaded from. Call it with the first vectors that they computed."""
    used = list(used)
    stored = known() if used else {}
    for encoder in used:
        if stored.get(encoder.name) != encoder:
            EncoderSource.objects.update_or_create(name=encoder.name, defaults={"source": encoder.source})


def forget(name: str) -> None:
    """Delete where this encoder is loaded from. Call it before its vectors are deleted."""
    EncoderSource.objects.filter(name=name).delete()


def joined(names: Iterable[str]) -> str:
    """Return names of encoders as the column ``embedded_with`` has them."""
    return SEPARATOR.join(sorted(set(names)))


def names_in(embedded_with: str) -> list[str]:
    """Return the names in a value of the column ``embedded_with``."""
    return embedded_with.split(SEPARATOR) if embedded_with else []
