"""Which images of two products look most alike, so that reviewers see the pair that has the score."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from django.db.models import QuerySet

from gpu.search_vectors import search_vector
from products.models import Feature


def best_views(
    product_id: int, image_ids: Collection[int], feature_type: str, model_name: str
) -> dict[int, tuple[int, float]]:
    """Return for each of these images the product's image that is most similar to it, and the dot product.

    Compares the stored features of one model. Images without usable ones are left out. Two queries.
    """
    if not image_ids:
        return {}
    rows = Feature.objects.filter(kind=feature_type, model_name=model_name).order_by("image_id")
    own = _vectors(rows.filter(product=product_id))
    others = _vectors(rows.filter(image__in=list(image_ids))) if own else {}
    if not others:
        return {}
    dots = np.stack(list(others.values())) @ np.stack(list(own.values())).T
    own_ids, best = list(own), dots.argmax(axis=1)
    return {image: (own_ids[column], float(row[column])) for image, column, row in zip(others, best, dots, strict=True)}


def _vectors(rows: QuerySet[Feature]) -> dict[int, npt.NDArray[np.float32]]:
    usable = {row.image_id: search_vector(row.to_features()) for row in rows if not row.is_damaged}
    return {image: vector for image, vector in usable.items() if vector.any()}
