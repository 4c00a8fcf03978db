"""Find stored features that no search can use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from django.db.models import QuerySet

from matching.index.loading import fetch
from products.models import Feature


def invalid_features(features: QuerySet[Feature], progress: Callable[[int], object] = lambda _: None) -> list[int]:
    """Return the ids of features that are not what was stored, have a wrong length, are zero or not finite.

    The index leaves these out.
    """
    invalid_ids: list[int] = []
    for kind, model, dim in sorted(set(features.order_by().values_list("kind", "model_name", "dim").distinct())):
        ids = features.filter(kind=kind, model_name=model, dim=dim).order_by("pk").values_list("pk", flat=True)
        for block in fetch(kind, model, dim, np.array(list(ids), np.int64)):
            invalid_ids += block.invalid_ids
            progress(len(block.feature) + len(block.invalid_ids))
    return sorted(invalid_ids)
