"""What every search engine takes and answers: filters, hits, and the error for a query that cannot be searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]  # what is being done, how many of how many


@dataclass(frozen=True, slots=True)
class Filters:
    """Which products qualify. ``None`` does not filter; ``product_ids`` are the only ones that may be found."""

    historical: bool | None = None
    category: str | None = None
    product_ids: frozenset[int] | None = None
    exclude_product: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A product that was found, by its most similar picture. ``score``: 0 to 100, from an engine 100·dot."""

    image_id: int
    product_id: int
    score: float


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """How one kind and model is searched, for people; ``remedy``: what to do, empty where all is well."""

    text: str
    remedy: str = ""


def no_progress(_what: str, _done: int, _total: int) -> None:
    """The progress of what nobody watches."""


def overfetch(k: int) -> int:
    """How many candidate products an engine reads for k answers: who is first is only known from their vectors."""
    return k + max(2, k // 10)


class SearchVectorError(ValueError):
    """The query cannot be searched with; ``code`` is stable, the text is for people."""

    code = "search_vector_invalid"


def validate_queries(vectors: npt.ArrayLike) -> Vectors:
    """The query rows (q, d) as float32. Raises SearchVectorError unless all are finite and of unit length."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or 0 in rows.shape:
        raise SearchVectorError(f"A search takes one or more rows of numbers, not an array of shape {rows.shape}.")
    lengths = norms(rows)
    if not np.all(np.abs(lengths - 1) < 1e-3):  # False for NaN too
        raise SearchVectorError("The vectors of a search must be finite and of length 1.")
    return rows


def norms(vectors: Vectors) -> npt.NDArray[np.float32]:
    """(n,): the Euclidean length of each row."""
    squares: npt.NDArray[np.float32] = np.einsum("ij,ij->i", vectors, vectors)
    return np.sqrt(squares)


def rank_products(
    queries: Vectors, vectors: Vectors, images: Ids, products: Ids, without: Iterable[int] = (), most: int | None = None
) -> list[Hit]:
    """Rank candidates by their stored vectors (n, d): one hit a product, best first, ties by picture id.

    Every engine's answer goes through here, so that the same catalogue gives the same scores whoever searched it.
    Summed in float64 and rounded, equal pictures score equally whatever order the processor adds in.
    """
    if not len(vectors):
        return []
    dots = (vectors.astype(np.float64) @ queries.astype(np.float64).T).max(axis=1)
    scores = np.round(np.clip(100 * dots, 0, 100), 6)
    order = np.lexsort((images, -scores))
    hits: dict[int, Hit] = {}
    passed = set(without)
    for image, product, score in zip(*(column[order].tolist() for column in (images, products, scores)), strict=True):
        if len(hits) == most:
            break
        if product not in passed and product not in hits:
            hits[product] = Hit(image, product, score)
    return list(hits.values())
