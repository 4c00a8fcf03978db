"""Fit a head: principal components, then regularised linear discriminant analysis, one class a product.

Everything comes from sums that are collected batch by batch, so memory does not grow with the catalogue. Sums can be
subtracted, which leaves out the products of a fold without reading anything again. Sources: Fisher, "The use of
multiple measurements in taxonomic problems", 1936; Friedman, "Regularized discriminant analysis", 1989 (shrinkage);
Ioffe, "Probabilistic linear discriminant analysis", 2006 (weighting each direction by its reliability).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpu.search_vectors import Doubles

# Chosen on grocery's views and queries, see docs/matching-quality.md. Values around these differ by less than the
# noise of 300 queries.
MAX_COMPONENTS = 300
SHRINKAGE = 0.3  # share of the mean variance in the scatter within products


@dataclass(slots=True)
class Scatter:
    """Sums over the views of products: enough to fit a head.

    ``total`` (D, D) sums x·xᵀ over all views, ``between`` (D, D) sums n·m·mᵀ over products with n views of mean m.
    """

    views: int
    products: int
    products_with_views: int  # products with two views or more
    sum: Doubles
    total: Doubles
    between: Doubles

    @classmethod
    def empty(cls, dim: int) -> Scatter:
        """Return the sums of no view."""
        return cls(0, 0, 0, np.zeros(dim), np.zeros((dim, dim)), np.zeros((dim, dim)))

    def add(self, vectors: npt.NDArray[np.float32], products: npt.NDArray[np.int64]) -> None:
        """Add views (n, D) and the ids (n,) of their products.

        All views of one product must be in one call.
        """
        if not len(vectors):
            return
        _, group, counts = np.unique(products, return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), vectors.shape[1]))
        np.add.at(sums, group, vectors)
        roots = sums / np.sqrt(counts)[:, None]
        values = vectors.astype(np.float64)
        self.views += len(vectors)
        self.products += len(counts)
        self.products_with_views += int((counts > 1).sum())
        self.sum += sums.sum(axis=0)
        self.total += values.T @ values
        self.between += roots.T @ roots

    def without(self, other: Scatter) -> Scatter:
        """Return the sums without those of ``other``, whose products must be among these."""
        return Scatter(
            self.views - other.views, self.products - other.products,
            self.products_with_views - other.products_with_views,
            self.sum - other.sum, self.total - other.total, self.between - other.between,
        )  # fmt: skip

    def of_columns(self, columns: npt.NDArray[np.int64], factors: npt.NDArray[np.float32]) -> Scatter:
        """Return the sums of some columns only, each multiplied by its factor."""
        factor = factors.astype(np.float64)
        square = np.ix_(columns, columns)
        return Scatter(
            self.views, self.products, self.products_with_views, self.sum[columns] * factor,
            self.total[square] * np.outer(factor, factor), self.between[square] * np.outer(factor, factor),
        )  # fmt: skip


def fit(scatter: Scatter) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the mean (D,) and the projection (D, d) of a head. d is at most MAX_COMPONENTS.

    Raises ValueError without two products, or without a product of two views.
    """
    if scatter.products < 2 or scatter.products_with_views < 1:
        raise ValueError("a head needs two products, one of them with two views")
    mean = scatter.sum / scatter.views
    outer = scatter.views * np.outer(mean, mean)
    total = (scatter.total - outer) / scatter.views
    variances, directions = np.linalg.eigh(total)
    count = min(MAX_COMPONENTS, int((variances > variances[-1] * 1e-9).sum()))
    components = directions[:, ::-1][:, :count]
    within = components.T @ ((scatter.total - scatter.between) / (scatter.views - scatter.products)) @ components
    between = components.T @ ((scatter.between - outer) / scatter.views) @ components
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / count * np.eye(count)
    spread, axes = np.linalg.eigh(within)
    whitening = axes / np.sqrt(spread)
    ratios, axes = np.linalg.eigh(whitening.T @ between @ whitening)
    kept = min(scatter.products - 1, count)
    ratios, axes = np.maximum(ratios[::-1][:kept], 0.0), axes[:, ::-1][:, :kept]
    projection = components @ whitening @ axes * np.sqrt(ratios / (1 + ratios))
    return mean.astype(np.float32), projection.astype(np.float32)
