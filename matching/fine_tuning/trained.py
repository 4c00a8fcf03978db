"""List the trained encoders in the data folder."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings

from gpu.training.model_folder import REPORT

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainedEncoder:
    """A trained encoder, and its recall@1 on held-out products before and after, with its gain at 95 %."""

    name: str
    folder: str
    started_from: str
    created_at: datetime
    before: float
    after: float
    gain: float
    low: float | None
    high: float | None
    held_out_products: int
    better: str


def list_trained() -> list[TrainedEncoder]:
    """Return the trained encoders, newest first. Folders with a damaged report are left out."""
    found = []
    for path in Path(settings.TRAINED_ROOT).glob(f"*/{REPORT}"):
        try:
            report = json.loads(path.read_bytes())
            gain = report["gain"]["recall@1"]
            found.append(
                TrainedEncoder(
                    path.parent.name, str(path.parent), report["started_from"],
                    datetime.fromisoformat(report["created_at"]), report["recall"]["frozen"]["recall@1"]["value"],
                    report["recall"]["fine-tuned"]["recall@1"]["value"], gain["value"], gain["low"], gain["high"],
                    report["held_out_products"], report["better"],
                )
            )  # fmt: skip
        except (OSError, ValueError, TypeError, KeyError):
            logger.warning("%s cannot be read, so its model is not listed", path)
    return sorted(found, key=lambda one: one.created_at, reverse=True)
