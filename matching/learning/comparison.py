"""Compare a new head with the version in use, on views of products that the head did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matching.learning.views import Views

MAX_PRODUCTS = 3000  # compared products; more would only narrow the noise
MIN_PRODUCTS_OF_CATEGORY = 10  # fewer say nothing about a category
GALLERY_VIEWS, MAX_QUERIES_PER_PRODUCT = 2, 8
# A head is better if its gain is so many standard errors above zero: one-sided, at 95 %.
STANDARD_ERRORS = 1.645
# So large a share of the true pairs gets a score of at least 50, the default threshold, as with legacy features.
SHARE_ABOVE_THRESHOLD = 0.95

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Vectors], Vectors]
Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of both on the same views.

    ``gain``: of the mean reciprocal rank, which counts the first place most and the next ones too. ``noise``: its
    standard error, over products. ``by_category``: the same two figures and the number of products of each category
    that has enough of them.
    """

    baseline: str
    before: dict[str, float]
    after: dict[str, float]
    gain: float
    noise: float
    score_floor: float
    by_category: dict[str, dict[str, float]]

    @property
    def wins(self) -> bool:
        """Return whether the head is better by more than its noise."""
        return (
            self.gain > STANDARD_ERRORS * self.noise and self.after["recall@5"] >= self.before["recall@5"] - self.noise
        )


class Sample:
    """Some products with a few views each, chosen by a seed while all are read."""

    def __init__(self, product_count: int) -> None:
        self._share = min(1.0, MAX_PRODUCTS / max(1, product_count))
        self._rng = np.random.default_rng(0)
        self._parts: list[Views] = []

    def add(self, views: Views) -> None:
        """Choose among the products of these views, and among the views of each."""
        rows = []
        for product in np.unique(views.products):
            if self._rng.random() < self._share:
                own = np.flatnonzero(views.products == product)
                rows.append(self._rng.permutation(own)[: GALLERY_VIEWS + MAX_QUERIES_PER_PRODUCT])
        if rows:
            chosen = np.concatenate(rows)
            self._parts.append(Views(views.vectors[chosen], views.products[chosen], views.images[chosen]))

    def views(self) -> Views:
        """Return the chosen views, those of one product in random order."""
        return Views(
            np.concatenate([part.vectors for part in self._parts]),
            np.concatenate([part.products for part in self._parts]),
            np.concatenate([part.images for part in self._parts]),
        )


def compare(
    sample: Views, after: Sequence[Embed], before: Sequence[Embed], baseline: str, categories: Mapping[int, str]
) -> Comparison:
    """Search with views of each product among two others of every product.

    ``after`` and ``before`` have one function a fold, which turns joined vectors (n, D) into unit vectors. That of fold
    f has not seen the products whose id is f modulo the number of folds. A product of one view is only searched.
    ``categories``: of the products, by id.
    """
    _, starts, counts = np.unique(sample.products, return_index=True, return_counts=True)
    order = np.arange(len(sample.products)) - np.repeat(starts, counts)  # of each view among its product's
    in_gallery = order < np.minimum(GALLERY_VIEWS, np.maximum(1, np.repeat(counts, counts) - 1))
    ranks_after, dots = _held_out_ranks(sample, in_gallery, after)
    ranks_before, _ = _held_out_ranks(sample, in_gallery, before)
    gained = 1 / (1 + ranks_after) - 1 / (1 + ranks_before)
    of_product = np.unique(sample.products[~in_gallery], return_inverse=True)[1]
    gain, noise = _gain_and_noise(gained, of_product)
    asked = sample.products[~in_gallery]
    by_category: dict[str, dict[str, float]] = {}
    for category in sorted({name for name in categories.values() if name}):
        own = np.isin(asked, [product for product, name in categories.items() if name == category])
        count = len(np.unique(asked[own]))
        if count >= MIN_PRODUCTS_OF_CATEGORY:
            own_gain, own_noise = _gain_and_noise(gained[own], np.unique(asked[own], return_inverse=True)[1])
            by_category[category] = {"gain": own_gain, "noise": own_noise, "products": count}
    floor = min(0.9, 2 * float(np.quantile(dots, 1 - SHARE_ABOVE_THRESHOLD)) - 1)
    return Comparison(baseline, _figures(ranks_before), _figures(ranks_after), gain, noise, floor, by_category)


def _held_out_ranks(
    sample: Views, in_gallery: npt.NDArray[np.bool_], embed: Sequence[Embed]
) -> tuple[Ranks, npt.NDArray[np.float64]]:
    """Return the rank and the dot product of the true product for all views that are not in the gallery."""
    found, dots = np.zeros(len(in_gallery), np.int64), np.zeros(len(in_gallery))
    for fold, function in enumerate(embed):
        asked = ~in_gallery & (sample.products % len(embed) == fold)
        if asked.any():
            found[asked], dots[asked] = ranks_among(function(sample.vectors), sample.products, in_gallery, asked)
    return found[~in_gallery], dots[~in_gallery]


def ranks_among(
    vectors: Vectors, products: npt.NDArray[np.int64], in_gallery: npt.NDArray[np.bool_], asked: npt.NDArray[np.bool_]
) -> tuple[Ranks, npt.NDArray[np.float64]]:
    """Return for each asked view how many products are more similar than its own, and the dot product with its own.

    The best view of each product counts. ``products`` is sorted.
    """
    ids, starts = np.unique(products[in_gallery], return_index=True)
    gallery = vectors[in_gallery]
    positions, dots = [], []
    rows = np.flatnonzero(asked)
    for start in range(0, len(rows), 500):
        block = rows[start : start + 500]
        best = np.maximum.reduceat(vectors[block] @ gallery.T, starts, axis=1)
        true = best[np.arange(len(block)), np.searchsorted(ids, products[block])]
        positions.append((best > true[:, None]).sum(axis=1))
        dots.append(true.astype(np.float64))
    return np.concatenate(positions), np.concatenate(dots)


def _gain_and_noise(gained: npt.NDArray[np.float64], of_product: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean gain of all queries and its standard error, over products."""
    per_product = np.bincount(of_product, gained - gained.mean())
    return float(gained.mean()), float(np.sqrt((per_product**2).sum()) / len(gained))


def _figures(ranks: Ranks) -> dict[str, float]:
    recalls = {f"recall@{k}": round(float((ranks < k).mean()), 4) for k in (1, 5, 10)}
    return recalls | {"mrr": round(float((1 / (1 + ranks)).mean()), 4)}
