"""The ids and filtered columns beside a set of vectors, and the masks that filters make of them."""

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
    """Candidates: picture and product ids (m,) and stored unit vectors (m, d); ``complete``: no others qualify."""

    image: Ids
    product: Ids
    vectors: Vectors
    complete: bool

    @classmethod
    def nothing(cls, dim: int) -> Candidates:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dim), np.float32), complete=True)


class Categories:
    """Category names ⇄ small numbers; shared by all rows of one catalogue and only ever added to."""

    def __init__(self, names: list[str] | None = None) -> None:
        self.names = list(names or [])
        self._codes = {name: code for code, name in enumerate(self.names)}

    def code(self, name: str) -> int | None:
        """The number of a category; None when no row ever had it."""
        return self._codes.get(name)

    def codes(self, names: list[str]) -> npt.NDArray[np.int32]:
        for name in names:
            if name not in self._codes:
                self._codes[name] = len(self.names)
                self.names.append(name)
        return np.array([self._codes[name] for name in names], np.int32)


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of n vectors, never changed in place: readers keep theirs while a refresh makes new ones."""

    feature: Ids
    image: Ids
    product: Ids
    historical: npt.NDArray[np.bool_]
    category: npt.NDArray[np.int32]
    alive: Mask  # False: the feature is gone, or its newer version is in another row

    @classmethod
    def of(cls, block: Block, categories: Categories) -> Rows:
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
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def taken(self, indices: Ids) -> Rows:
        return Rows(*(getattr(self, name)[indices] for name in self.__slots__))

    def mask(self, filters: Filters, categories: Categories) -> Mask:
        """Which rows may be found, (n,) bool; the excluded product is left to the ranking."""
        mask = self.alive.copy()
        if filters.historical is not None:
            mask &= self.historical if filters.historical else ~self.historical
        if filters.category is not None:
            mask &= self.category == categories.code(filters.category)
        if filters.product_ids is not None:
            mask &= np.isin(self.product, np.fromiter(filters.product_ids, np.int64, len(filters.product_ids)))
        return mask

    def without(self, features: Ids) -> Rows:
        """The same rows, those of ``features`` dead."""
        gone = np.isin(self.feature, features) & self.alive
        return replace(self, alive=self.alive & ~gone) if gone.any() else self

    def revised(self, products: Ids, historical: npt.NDArray[np.bool_], category: npt.NDArray[np.int32]) -> Rows:
        """The same rows with the filtered columns of ``products`` (rising ids) as they are now."""
        touched = np.flatnonzero(np.isin(self.product, products))
        if not len(touched):
            return self
        at = np.searchsorted(products, self.product[touched])
        new_historical, new_category = self.historical.copy(), self.category.copy()
        new_historical[touched], new_category[touched] = historical[at], category[at]
        return replace(self, historical=new_historical, category=new_category)
