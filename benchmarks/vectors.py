"""Synthetic vectors with the shape of CLIP's: anisotropic and clustered, not uniform noise.

An image is a normalised sum. Half of its squared length is a direction common to all images. The rest is its category
(15 %, sizes fall like 1/rank), its type within the category (10 %, about 200 images), its group of about ten similar
images (10 %) and the image itself (15 %). All but the common direction have a power-law spectrum, variance ~
1/(i + 2): 100 of 512 directions hold 71 % of it. So two images have a cosine of about 0.5, two of a category 0.65 and
two of a group 0.85, as product images have with CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

MODEL = "clip-ViT-B-32"  # the default, so that the web server uses these vectors
CATEGORIES = 400
IMAGES_PER_TYPE = 200
IMAGES_PER_GROUP = 10
SHARES = (0.5, 0.15, 0.1, 0.1, 0.15)  # of the squared length: common, category, type, group, image
CHUNK_ROWS = 50_000


@dataclass(frozen=True)
class VectorSet:
    vectors: Vectors  # (n, d), unit rows
    queries: Vectors  # (q, d), unit rows: further images of the same groups


def clip_like_vectors(n: int, queries: int = 200, dim: int = 512, seed: int = 1) -> VectorSet:
    """Return ``n`` vectors and some queries. The same arguments give the same vectors."""
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(np.arange(dim, dtype=np.float32) + 2)
    spectrum /= np.linalg.norm(spectrum)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0].astype(np.float32)
    scales = np.sqrt(np.array(SHARES, np.float32))

    def directions(count: int, scale: float) -> Vectors:
        # Rotated, so that no coordinate is special and no quantiser profits from this construction.
        rows = (rng.standard_normal((count, dim), dtype=np.float32) * (spectrum * np.float32(scale))) @ rotation
        return np.asarray(rows, np.float32)

    common = directions(1, scales[0])
    common *= scales[0] / np.linalg.norm(common)
    sizes = 1 / np.arange(1, CATEGORIES + 1)
    types, groups = -(-n // IMAGES_PER_TYPE), -(-n // IMAGES_PER_GROUP)
    centres = common + directions(CATEGORIES, scales[1])
    centres = centres[rng.choice(CATEGORIES, size=types, p=sizes / sizes.sum())] + directions(types, scales[2])
    centres = centres[rng.integers(types, size=groups)]
    for start in range(0, groups, CHUNK_ROWS):
        part = centres[start : start + CHUNK_ROWS]
        part += directions(len(part), scales[3])

    def images(count: int) -> Vectors:
        rows = centres[rng.integers(groups, size=count)] + directions(count, scales[4])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    vectors = np.empty((n, dim), np.float32)
    for start in range(0, n, CHUNK_ROWS):
        vectors[start : start + CHUNK_ROWS] = images(min(CHUNK_ROWS, n - start))
    return VectorSet(vectors, images(queries))
