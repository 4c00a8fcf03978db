"""The one rule whose images are views of a catalogue product. Search, learning and pages follow it.

Those of a new product that was confirmed to be that one, and no other, by a decision that makes its images views. A
learned head searches them and learns from them.

An encoder alone does not. Photographs of some products beside studio images of the others attract every photograph:
with 50 confirmed images, recall@1 of an encoder fell from 0.39 to 0.30, see docs/matching-quality.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from django.db import connection

from gpu.vectors import HEAD
from matching.index.types import Ids

MAX_LISTED = 500  # ids in one query; for more, all confirmed products are read

# A new product that was confirmed to be several is left out, because its images would belong to each of them. A verdict
# without a decision, as in catalogues of older versions, counts. One that only the policy confirmed is left out: a
# mistake of it would make the next one likelier.
CONFIRMED = (
    "SELECT product_id FROM matches WHERE review_status = 'confirmed'{} AND NOT EXISTS (SELECT 1 FROM decisions WHERE "
    "decisions.product_id = matches.product_id AND (automatic OR NOT images_are_views)) "
    "GROUP BY product_id HAVING count(*) = 1"
)


def confirmed_among(kind: str, products: Sequence[int]) -> Ids:
    """Return those of these new products that count as catalogue products in vectors of this kind, by rising id."""
    if not products or kind != HEAD:
        return np.empty(0, np.int64)
    found = np.array(sorted(shown_products(products)), np.int64)
    return np.intersect1d(found, np.array(products, np.int64))


def shown_products(products: Sequence[int] | None = None) -> dict[int, int]:
    """Return the catalogue product that the images of each of these new products are views of, or of all."""
    listed = list(products) if products is not None and len(products) <= MAX_LISTED else []
    among = f" AND product_id IN ({', '.join(['%s'] * len(listed))})" if listed else ""
    sql = CONFIRMED.format(among).replace("SELECT product_id FROM", "SELECT product_id, min(candidate_id) FROM", 1)
    with connection.cursor() as cursor:
        cursor.execute(sql, listed)
        return dict(cursor.fetchall())
