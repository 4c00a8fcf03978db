"""Keep calibrations in the database: the newest adopted one of a version counts."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import QuerySet

from matching.answers.choice import TERMS, ChoiceModel
from matching.answers.same_images import LOG_ODDS
from matching.evidence.statistics import CatalogueStatistics
from matching.models import Calibration


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What turns the candidates of one version into probabilities.

    ``same_from`` and ``new_from``: the lowest probability that carries the promise of the answer "same" or "new"; None
    if no probability does.
    """

    pk: int
    created_at: datetime
    model: ChoiceModel
    same_from: float | None
    new_from: float | None
    statistics: CatalogueStatistics
    same_image: float  # the log-odds that the same image adds


def usable(model_name: str) -> QuerySet[Calibration]:
    """Return the calibrations of a version that have the terms of today, newest first."""
    has_terms = {f"parameters__weights__{name}__isnull": False for name in TERMS}
    return Calibration.objects.filter(model_name=model_name, **has_terms).order_by("-pk")


def load(model_name: str) -> Calibrated | None:
    """Return the calibration in use for a version, or None without one. Costs one short query."""
    newest = usable(model_name).filter(adopted=True).values_list("pk", "created_at").first()
    return _load(*newest) if newest is not None else None


@lru_cache(maxsize=4)
def _load(pk: int, _created_at: datetime) -> Calibrated:
    """Read a calibration. Its time is part of the key, because a restored database may have another of this id."""
    row = Calibration.objects.get(pk=pk)
    parameters: dict[str, Any] = row.parameters
    return Calibrated(
        pk,
        row.created_at,
        ChoiceModel.from_dict(parameters),
        parameters["same_from"],
        parameters["new_from"],
        _unpack(bytes(row.statistics)),
        parameters.get("same_image", LOG_ODDS),
    )


def pack(statistics: CatalogueStatistics) -> bytes:
    """Return the statistics as compressed JSON."""
    values = [[name, value, share] for (name, value), share in statistics.values.items()]
    data = {
        "products": statistics.products,
        "words": statistics.words,
        "grams": statistics.grams,
        "shared": statistics.shared,
        "values": values,
        "coincidence": statistics.coincidence,
    }
    return zlib.compress(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


def _unpack(data: bytes) -> CatalogueStatistics:
    stored = json.loads(zlib.decompress(data))
    values = {(name, value): share for name, value, share in stored.pop("values")}
    return CatalogueStatistics(values=values, **stored)
