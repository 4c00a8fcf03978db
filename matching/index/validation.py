"""Stored features that no search can use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from django.db.models import QuerySet

from matching.index.loading import fetch
from products.models import Feature


def invalid_features(features: QuerySet[Feature], progress: Callable[[int], object] = lambda _: None) -> list[int]:
    """Ids of those ``features`` whose BLOBs are of a wrong length, not finite or zero: what the index leaves out."""
    found: list[int] = []
    for kind, model, dim in sorted(set(features.order_by().values_list("kind", "model_name", "dim").distinct())):
        ids = features.filter(kind=kind, model_name=model, dim=dim).order_by("pk").values_list("pk", flat=True)
        for block in fetch(kind, model, dim, np.array(list(ids), np.int64)):
            found += block.refused
            progress(len(block.feature) + len(block.refused))
    return sorted(found)
