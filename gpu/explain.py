"""Explain a score: which regions of two images match, and what each part of the vectors adds to the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from gpu.encoders.tokens import Patches
from gpu.heads import Head
from gpu.search_vectors import PARTS_OF_LEGACY
from gpu.vectors import LEGACY, Features

Map = npt.NDArray[np.float64]

# The penalty of the regression that finds each patch's share, relative to the mean square of the patches. Of .001, .1
# and 1 the middle one was best on photographs of groceries (benchmarks/explanations.py).
_RIDGE = 0.1
# Below this cosine, patches do not add up to the image's vector, and their shares mean nothing.
_MIN_FIT = 0.5


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one part adds to a score, in points. ``name``: the part of the part, such as colour, or empty."""

    kind: str
    model_name: str
    name: str
    points: float


def heat_maps(first: Patches, second: Patches) -> tuple[Map, Map]:
    """Return how much each patch of two images speaks for their similarity, (rows, columns) each, from 0 to 1.

    A patch counts by its share in the vector of its image, times how well its best match in the other image fits.
    The mean of all patches is subtracted first, because all have it in common.
    """
    mean = np.concatenate([first.vectors, second.vectors]).mean(axis=0)
    # For matrices this small, more threads of BLAS only wait for each other: 6 ms became 30 to 800 on two busy cores.
    with threadpool_limits(limits=1):
        similarities = _unit(first.vectors - mean) @ _unit(second.vectors - mean).T
        return _heat(first, similarities.max(axis=1)), _heat(second, similarities.max(axis=0))


def covered_area(size: tuple[int, int], scaled: int, crop: int, squash: bool) -> tuple[float, float, float, float]:
    """Return which part of an image of ``size`` a model sees: left, top, width, height as shares of the image."""
    width, height = size
    if squash:
        shares = (crop / scaled, crop / scaled)
    else:
        shares = (crop / scaled * min(width, height) / width, crop / scaled * min(width, height) / height)
    return (1 - shares[0]) / 2, (1 - shares[1]) / 2, shares[0], shares[1]


def head_contributions(
    head: Head, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
) -> list[tuple[str, str, str, float]]:
    """Return kind, model, name and dot product of each part of a head, for two joined vectors (D,).

    The dot products sum to that of the two vectors of the head. A part's is the mean of what it adds on either side.
    """
    differences = [np.asarray(vector, np.float64) - head.mean for vector in (first, second)]
    projected = [difference @ head.projection for difference in differences]
    scale = float(np.linalg.norm(projected[0]) * np.linalg.norm(projected[1])) or 1.0
    # How much each number of a vector adds to the dot product with the other vector.
    each = [
        differences[0] * (head.projection @ projected[1]) / scale,
        differences[1] * (head.projection @ projected[0]) / scale,
    ]
    each_mean = (each[0] + each[1]) / 2
    found: list[tuple[str, str, str, float]] = []
    start = 0
    for part in head.parts:
        values = each_mean[start : start + part.dim]
        start += part.dim
        found += [(part.kind, part.model_name, name, dot) for name, dot in _split(part.kind, values)]
    return found


def plain_contributions(
    features: Features, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
) -> list[tuple[str, str, str, float]]:
    """Return kind, model, name and dot product of each part of two search vectors of one model."""
    values = np.asarray(first, np.float64) * np.asarray(second, np.float64)
    return [(features.kind, features.model_name, name, dot) for name, dot in _split(features.kind, values)]


def points(dots: Sequence[tuple[str, str, str, float]], floor: float) -> list[Contribution]:
    """Return the contributions in points of the score. The last one is the floor, which all scores lose.

    They sum to the score, unless that is cut off at 0.
    """
    scale = 100 / (1 - floor)
    found = [Contribution(kind, model, name, scale * dot) for kind, model, name, dot in dots]
    return found if floor == 0 else [*found, Contribution("", "", "floor", -scale * floor)]


def _split(kind: str, values: npt.NDArray[np.float64]) -> list[tuple[str, float]]:
    if kind == LEGACY:
        return [(name, float(values[where].sum())) for name, where in PARTS_OF_LEGACY.items()]
    return [("", float(values.sum()))]


def _heat(patches: Patches, matches: npt.NDArray[np.float64]) -> Map:
    heat = np.clip(matches, 0, None).reshape(patches.rows, patches.columns) * _shares(patches)
    largest = float(heat.max())
    return heat / largest if largest > 0 else heat


def _shares(patches: Patches) -> Map:
    """Return each patch's share in the vector of its image, smoothed over its neighbours.

    Ridge regression finds the weighted sum of patches that comes closest to the vector.
    """
    vectors, embedding = np.asarray(patches.vectors, np.float64), np.asarray(patches.embedding, np.float64)
    products = vectors @ vectors.T
    penalty = _RIDGE * np.trace(products) / len(vectors)
    found = np.clip(np.linalg.solve(products + penalty * np.eye(len(vectors)), vectors @ embedding), 0, None)
    total = found @ vectors
    fit = total @ embedding / max(float(np.linalg.norm(total) * np.linalg.norm(embedding)), 1e-12)
    if not fit >= _MIN_FIT:
        return np.ones((patches.rows, patches.columns))
    padded = np.pad(found.reshape(patches.rows, patches.columns), 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.asarray(windows.mean(axis=(2, 3)))


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    values = np.asarray(vectors, np.float64)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))
