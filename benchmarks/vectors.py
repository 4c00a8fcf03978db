"""Synthetic vectors shaped like CLIP's: anisotropic, with few strong directions, and clustered; not uniform noise.

A picture is a sum, normalised: a direction common to all pictures (half of the squared length), its category
(a fifth; sizes fall like 1/rank), its group of about ten look-alikes (15 %) and the picture itself (15 %). All but
the common direction have a power-law spectrum, variance ~ 1/(i + 8). So two pictures of a catalogue have a cosine
of about 0.5, two of a category 0.7, two look-alikes 0.85, as with CLIP's embeddings of product pictures.
A query is another picture of a catalogue's group. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

CATEGORIES = 1000
GROUP_SIZE = 10
SHARES = (0.5, 0.2, 0.15, 0.15)  # of the squared length: common, category, group, picture
CHUNK = 50_000


@dataclass(frozen=True)
class Catalogue:
    vectors: Vectors  # (n, d), unit rows
    queries: Vectors  # (q, d), unit rows


def catalogue(n: int, queries: int = 200, dim: int = 512, seed: int = 1) -> Catalogue:
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(np.arange(dim, dtype=np.float32) + 8)
    spectrum /= np.linalg.norm(spectrum)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0].astype(np.float32)
    common, category, group, picture = np.sqrt(np.array(SHARES, np.float32))

    def directions(count: int) -> Vectors:
        # Rotated, so that no coordinate is special: quantisers must not profit from the way this is made.
        return (rng.standard_normal((count, dim), dtype=np.float32) * spectrum) @ rotation

    mean = directions(1)
    mean *= common / np.linalg.norm(mean)
    weights = 1 / np.arange(1, CATEGORIES + 1)
    categories = directions(CATEGORIES) * category
    groups = -(-n // GROUP_SIZE)
    category_of = rng.choice(CATEGORIES, size=groups, p=weights / weights.sum())

    def pictures(members: npt.NDArray[np.int64]) -> Vectors:
        rows = centres[members] + directions(len(members)) * picture
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    centres = np.empty((groups, dim), np.float32)
    for start in range(0, groups, CHUNK):
        of = category_of[start : start + CHUNK]
        centres[start : start + CHUNK] = mean + categories[of] + directions(len(of)) * group
    vectors = np.empty((n, dim), np.float32)
    for start in range(0, n, CHUNK):
        end = min(n, start + CHUNK)
        vectors[start:end] = pictures(rng.integers(groups, size=end - start))
    return Catalogue(vectors, pictures(rng.integers(groups, size=queries)))
