"""Batches of an epoch, and the products that are held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpu.training.loop import Batch
from matching.fine_tuning.data import TrainingData, View, paths
from matching.learning.comparison import GALLERY_VIEWS, MAX_QUERIES_PER_PRODUCT, ranks_among

SEED = 0
# Products of a batch. Each has two views, and all others are its negatives.
MIN_BATCH, MAX_BATCH, BATCHES_A_ROUND = 16, 256, 4
PAIRS_PER_PRODUCT = 4  # a pass; more views of one product would outweigh the others
MIN_STEPS = 20  # of an epoch; a small catalogue is passed several times
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15
MAX_TEST, MAX_VALIDATION = 500, 200  # products; more would only narrow the intervals
MAX_DISTRACTORS = 1000  # products that are also searched in

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Images to search with and in.

    ``products`` (n,) is sorted. ``in_gallery`` and ``searched`` (n,) say which is which.
    """

    views: Sequence[View]
    products: npt.NDArray[np.int64]
    in_gallery: npt.NDArray[np.bool_]
    searched: npt.NDArray[np.bool_]

    def ranks(self, vectors: Vectors) -> npt.NDArray[np.int64]:
        """Return the rank of the right product for each searched image, from 0."""
        return ranks_among(vectors, self.products, self.in_gallery, self.searched)[0]

    @property
    def of_queries(self) -> npt.NDArray[np.int64]:
        """Return the right product of each searched image."""
        return self.products[self.searched]


@dataclass(frozen=True, slots=True)
class Split:
    """Products to train on, and two disjoint sets that are not: to stop early by, and to measure with."""

    training: list[int]
    validation: HeldOut
    test: HeldOut


def split(data: TrainingData) -> Split:
    """Choose the held-out products by a seed."""
    rng = np.random.default_rng([SEED, 1])
    candidates = [product for product in data.with_views if product in data.categories]
    order = [candidates[place] for place in rng.permutation(len(candidates))]
    test_count = min(MAX_TEST, round(TEST_SHARE * len(order)))
    validation_count = min(MAX_VALIDATION, round(VALIDATION_SHARE * len(order)))
    test, validation = order[:test_count], order[test_count : test_count + validation_count]
    held_out = {*test, *validation}
    training = [product for product in data.views if product not in held_out]
    known = [product for product in training if product in data.known]
    distractors = [known[place] for place in np.sort(rng.permutation(len(known))[:MAX_DISTRACTORS])]
    return Split(training, _held_out(data, validation, distractors), _held_out(data, test, distractors))


def _held_out(data: TrainingData, searched: Sequence[int], distractors: Sequence[int]) -> HeldOut:
    views: list[View] = []
    products: list[int] = []
    in_gallery: list[bool] = []
    for product in sorted([*searched, *distractors]):
        own = data.views[product]
        if product in set(searched):
            gallery = min(GALLERY_VIEWS, len(own) - 1)
            own = own[: gallery + MAX_QUERIES_PER_PRODUCT]
        else:
            own = own[:1]
            gallery = 1
        views += own
        products += [product] * len(own)
        in_gallery += [place < gallery for place in range(len(own))]
    flags = np.array(in_gallery, np.bool_)
    return HeldOut(views, np.array(products, np.int64), flags, ~flags)


class Batches:
    """The batches of each epoch, and the score of the validation products."""

    def __init__(self, data: TrainingData, parts: Split) -> None:
        self._views = {product: data.views[product] for product in parts.training}
        self._known = data.known
        self._validation = parts.validation
        # New products that were rejected are negatives of those candidates only.
        self._anchors = [product for product in parts.training if product in data.known]
        self.size = min(len(self._anchors), max(MIN_BATCH, min(MAX_BATCH, len(self._anchors) // BATCHES_A_ROUND)))
        self._rejected: dict[int, list[int]] = defaultdict(list)
        for first, second in data.rejected:
            if first in self._views and second in self._views:
                self._rejected[first].append(second)
                self._rejected[second].append(first)

    @property
    def rejected_pairs(self) -> int:
        """Return how many rejected pairs are trained on."""
        return sum(map(len, self._rejected.values())) // 2

    def epoch(self, number: int) -> list[Batch]:
        """Return the batches of an epoch: in each round every product with further views gives two of them."""
        rng = np.random.default_rng([SEED, 2, number])
        batches: list[Batch] = []
        while len(batches) < MIN_STEPS:
            batches += self._pass(rng)
        return batches

    def _pass(self, rng: np.random.Generator) -> list[Batch]:
        order = {product: rng.permutation(len(self._views[product])) for product in self._anchors}
        batches = []
        for round_ in range(PAIRS_PER_PRODUCT):
            due = [product for product in self._anchors if round_ < max(1, len(order[product]) // 2)]
            due = [due[place] for place in rng.permutation(len(due))]
            for start in range(0, len(due), self.size):
                chosen = self._filled(due[start : start + self.size], rng)
                batches.append(self._batch(chosen, order, round_, rng))
        return batches

    def score(self, embed: Callable[[Sequence[Path]], Vectors]) -> dict[str, float]:
        """Return recall@1 and the mean reciprocal rank of the validation products."""
        found = self._validation.ranks(embed(paths(self._validation.views)))
        return {
            "recall@1": round(float((found < 1).mean()), 4),
            "mrr": round(float((1 / (1 + found)).mean()), 4),
        }

    def _filled(self, chosen: list[int], rng: np.random.Generator) -> list[int]:
        """Return these products and others, up to the size of a batch: a small batch has few negatives."""
        lacking = self.size - len(chosen)
        if not lacking:
            return chosen
        own = set(chosen)
        others = [product for product in self._anchors if product not in own]
        return [*chosen, *(others[place] for place in rng.permutation(len(others))[:lacking])]

    def _batch(
        self, chosen: Sequence[int], order: dict[int, npt.NDArray[np.int64]], round_: int, rng: np.random.Generator
    ) -> Batch:
        views: list[View] = []
        labels: list[int] = []
        for product in chosen:
            places = order[product]
            # A product of one view shows it in two variations.
            pair = [places[(2 * round_ + offset) % len(places)] for offset in range(2)]
            views += [self._views[product][place] for place in pair]
            labels += [product, product]
        for product in chosen:
            if rejected := self._rejected.get(product):
                other = rejected[int(rng.integers(len(rejected)))]
                own = self._views[other]
                views.append(own[int(rng.integers(len(own)))])
                labels.append(other)
        numbers = np.array(labels, np.int64)
        seeds = [int(seed) for seed in rng.integers(0, 2**62, len(views))]
        return Batch(paths(views), seeds, numbers, self._apart(numbers))

    def _apart(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        known = np.array([label in self._known for label in labels.tolist()])
        apart: npt.NDArray[np.bool_] = (labels[:, None] != labels[None, :]) & known[:, None] & known[None, :]
        for row, label in enumerate(labels.tolist()):
            if label in self._rejected:
                told = np.isin(labels, self._rejected[label])
                apart[row] |= told
                apart[:, row] |= told
        return apart
