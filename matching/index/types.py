"""What all search engines share: filters, hits, checks of query vectors, and ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]  # step, done, total


@dataclass(frozen=True, slots=True)
class Filters:
    """Which products qualify. ``None`` does not filter. ``product_ids`` excludes all others.

    ``historical``: catalogue products, and for heads also new products that were confirmed to be one of them.
    """

    historical: bool | None = None
    category: str | None = None
    product_ids: frozenset[int] | None = None
    exclude_product: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A product with its most similar image."""

    image_id: int
    product_id: int
    score: float  # 0 to 100; engines return 100·dot


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """How one kind and model is searched, in words for the user."""

    text: str
    remedy: str = ""  # what to do, "" if nothing


def no_progress(_step: str, _done: int, _total: int) -> None:
    """Report no progress."""


def overfetch(k: int) -> int:
    """Return how many products an engine reads for k hits.

    The stored codes are approximate. Only the stored vectors decide which products are the best k.
    """
    return k + max(2, k // 10)


class SearchVectorError(ValueError):
    """A query vector is invalid. ``code`` is stable, the message is for the user."""

    code = "search_vector_invalid"


def validate_queries(vectors: npt.ArrayLike) -> Vectors:
    """Return the query vectors (q, d) as float32.

    Raises SearchVectorError unless all are finite and of unit length.
    """
    queries = np.ascontiguousarray(vectors, dtype=np.float32)
    if queries.ndim != 2 or 0 in queries.shape:
        raise SearchVectorError(f"A search takes one or more rows of numbers, not an array of shape {queries.shape}.")
    if not np.all(np.abs(norms(queries) - 1) < 1e-3):  # False for NaN too
        raise SearchVectorError("The vectors of a search must be finite and of length 1.")
    return queries


def norms(vectors: Vectors) -> npt.NDArray[np.float32]:
    """Return the Euclidean length of each row, (n,)."""
    squares: npt.NDArray[np.float32] = np.einsum("ij,ij->i", vectors, vectors)
    return np.sqrt(squares)


def rank_products(
    queries: Vectors,
    vectors: Vectors,
    images: Ids,
    products: Ids,
    excluded: Iterable[int] = (),
    limit: int | None = None,
) -> list[Hit]:
    """Rank candidates by their stored vectors (n, d): one hit a product, best first.

    Ties are in the order of image ids. All engines rank here, so that they give the same scores. Sums are float64
    and rounded, so that equal images score equally in whatever order the processor adds.
    """
    if not len(vectors):
        return []
    dots = (vectors.astype(np.float64) @ queries.astype(np.float64).T).max(axis=1)
    scores = np.round(np.clip(100 * dots, 0, 100), 6)
    order = np.lexsort((images, -scores))
    hits: dict[int, Hit] = {}
    skipped = set(excluded)
    for image, product, score in zip(*(column[order].tolist() for column in (images, products, scores)), strict=True):
        if len(hits) == limit:
            break
        if product not in skipped and product not in hits:
            hits[product] = Hit(image, product, score)
    return list(hits.values())
