"""The ids and filter columns of a set of vectors, and masks that apply filters to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from matching.index.loading import Block
from matching.index.types import Filters, Ids, Vectors

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Image ids (m,), product ids (m,) and stored unit vectors (m, d) of candidate rows."""

    images: Ids
    products: Ids
    vectors: Vectors
    is_complete: bool  # no other row qualifies

    @classmethod
    def empty(cls, dim: int) -> Candidates:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dim), np.float32), is_complete=True)


class Categories:
    """Category names as small codes.

    All rows of one catalogue share them. Codes are only added.
    """

    def __init__(self, names: list[str] | None = None) -> None:
        self.names = list(names or [])
        self._codes = {name: code for code, name in enumerate(self.names)}

    def code(self, name: str) -> int | None:
        """Return the code of a category, or None if no row has had it."""
        return self._codes.get(name)

    def codes(self, names: list[str]) -> npt.NDArray[np.int32]:
        """Return the codes of categories, and add new ones."""
        for name in names:
            if name not in self._codes:
                self._codes[name] = len(self.names)
                self.names.append(name)
        return np.array([self._codes[name] for name in names], np.int32)


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of n vectors. Immutable: readers keep theirs while an update makes new ones."""

    feature: Ids
    image: Ids
    product: Ids
    historical: npt.NDArray[np.bool_]
    category: npt.NDArray[np.int32]
    alive: Mask  # False: the feature was deleted, or another row has its newer version

    @classmethod
    def from_block(cls, block: Block, categories: Categories) -> Rows:
        return cls(
            block.feature,
            block.image,
            block.product,
            block.historical,
            categories.codes(block.category),
            np.ones(len(block.feature), np.bool_),
        )

    def __len__(self) -> int:
        return len(self.feature)

    @classmethod
    def concatenate(cls, parts: Sequence[Rows]) -> Rows:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def take(self, indices: Ids) -> Rows:
        return Rows(*(getattr(self, name)[indices] for name in self.__slots__))

    def mask(self, filters: Filters, categories: Categories) -> Mask:
        """Return which rows pass the filters, (n,) bool. Ranking drops the excluded product."""
        mask = self.alive.copy()
        if filters.historical is not None:
            mask &= self.historical if filters.historical else ~self.historical
        if filters.category is not None:
            mask &= self.category == categories.code(filters.category)
        if filters.product_ids is not None:
            mask &= np.isin(self.product, np.fromiter(filters.product_ids, np.int64, len(filters.product_ids)))
        return mask

    def with_dead(self, features: Ids) -> Rows:
        """Return the rows with those of ``features`` marked dead."""
        dead = np.isin(self.feature, features) & self.alive
        return replace(self, alive=self.alive & ~dead) if dead.any() else self

    def with_columns(self, products: Ids, historical: npt.NDArray[np.bool_], category: npt.NDArray[np.int32]) -> Rows:
        """Return the rows with new filter columns for ``products``, which are sorted ids."""
        rows = np.flatnonzero(np.isin(self.product, products))
        if not len(rows):
            return self
        positions = np.searchsorted(products, self.product[rows])
        new_historical, new_category = self.historical.copy(), self.category.copy()
        new_historical[rows], new_category[rows] = historical[positions], category[positions]
        return replace(self, historical=new_historical, category=new_category)
