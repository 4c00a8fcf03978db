"""Synthetic vectors shaped like CLIP's: anisotropic, with few strong directions, and clustered; not uniform noise.

A picture is a sum, normalised. Half of its squared length is a direction common to all pictures; then come its
category (15 %; sizes fall like 1/rank), its type within the category (10 %, about 200 pictures), its group of about
ten look-alikes (10 %) and the picture itself (15 %). All but the common direction have a power-law spectrum,
variance ~ 1/(i + 2): 100 of 512 directions hold 71 % of it. So two pictures have a cosine of about 0.5, two of a
category 0.65, two look-alikes 0.85, as product pictures have with CLIP.
A query is another picture of a catalogue's group. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

CATEGORIES = 400
PICTURES_A_TYPE = 200
PICTURES_A_GROUP = 10
SHARES = (0.5, 0.15, 0.1, 0.1, 0.15)  # of the squared length: common, category, type, group, picture
CHUNK = 50_000


@dataclass(frozen=True)
class Catalogue:
    vectors: Vectors  # (n, d), unit rows
    queries: Vectors  # (q, d), unit rows


def catalogue(n: int, queries: int = 200, dim: int = 512, seed: int = 1) -> Catalogue:
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(np.arange(dim, dtype=np.float32) + 2)
    spectrum /= np.linalg.norm(spectrum)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0].astype(np.float32)
    scales = np.sqrt(np.array(SHARES, np.float32))

    def directions(count: int, scale: float) -> Vectors:
        # Rotated, so that no coordinate is special: a quantiser must not profit from the way this is made.
        rows = (rng.standard_normal((count, dim), dtype=np.float32) * (spectrum * np.float32(scale))) @ rotation
        return np.asarray(rows, np.float32)

    common = directions(1, scales[0])
    common *= scales[0] / np.linalg.norm(common)
    sizes = 1 / np.arange(1, CATEGORIES + 1)
    types, groups = -(-n // PICTURES_A_TYPE), -(-n // PICTURES_A_GROUP)
    centres = common + directions(CATEGORIES, scales[1])
    centres = centres[rng.choice(CATEGORIES, size=types, p=sizes / sizes.sum())] + directions(types, scales[2])
    centres = centres[rng.integers(types, size=groups)]
    for start in range(0, groups, CHUNK):
        part = centres[start : start + CHUNK]
        part += directions(len(part), scales[3])

    def pictures(count: int) -> Vectors:
        rows = centres[rng.integers(groups, size=count)] + directions(count, scales[4])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    vectors = np.empty((n, dim), np.float32)
    for start in range(0, n, CHUNK):
        vectors[start : start + CHUNK] = pictures(min(CHUNK, n - start))
    return Catalogue(vectors, pictures(queries))
