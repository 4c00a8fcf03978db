"""Measure whether a head should answer in some categories only, beside a plain version in the others.

    python -m benchmarks.head_by_category IMAGES ENCODER.onnx [--cache FILE.npz]

IMAGES is a folder as in ``benchmarks.review_order``, whose ``--cache`` fits here. Compared are the joined vectors of
encoder and legacy features, plain and with a head, on views of products that the head did not learn from. Two views of
each product are searched in. ``queries.csv`` is searched among all images.

The mixed version keeps both vectors of each image in one index. A product's category says which of them counts: the
plain one if the head loses in it on the views. Scores of both have the same mean and deviation among wrong products.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.review_order import joined_vectors, read_rows

FOLDS, GALLERY_VIEWS, MIN_PRODUCTS = 5, 2, 3

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="by-category-") as folder:
        os.environ |= {
            "CATALOGMATCH_DATA_DIR": folder, "DJANGO_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
            "CLIP_MODEL": str(options.encoder.resolve()), "CELERY_BROKER_URL": "",
        }  # fmt: skip
        import django

        django.setup()
        _measure(options.images, joined_vectors(options.images.resolve(), options.cache))


def _measure(images: Path, vectors: dict[str, Floats]) -> None:
    rows = {table: read_rows(images, table) for table in ("catalogue", "views", "queries")}
    number = {row["sku"]: place for place, row in enumerate(rows["catalogue"])}
    category = {number[row["sku"]]: row["category"] for row in rows["catalogue"]}

    def of(*tables: str) -> tuple[Floats, Ints]:
        chosen = [row for table in tables for row in rows[table]]
        return np.array([vectors[row["image"]] for row in chosen]), np.array([number[row["sku"]] for row in chosen])

    known, owners = of("catalogue", "views")
    asked, truth = of("queries")
    order = np.random.default_rng(0).permutation(len(known))
    place = np.zeros(len(known), np.int64)
    for product in number.values():
        place[order[owners[order] == product]] = np.arange((owners == product).sum())
    gallery, held_out = np.flatnonzero(place < GALLERY_VIEWS), np.flatnonzero(place >= GALLERY_VIEWS)
    scores = np.zeros((len(held_out), len(number)))
    for fold in range(FOLDS):
        head = _head(known[owners % FOLDS != fold], owners[owners % FOLDS != fold])
        own = owners[held_out] % FOLDS == fold
        scores[own] = _best(head(known[gallery]), owners[gallery], head(known[held_out[own]]))
    plain = _best(_unit(known[gallery]), owners[gallery], _unit(known[held_out]))
    gains = 1 / (1 + _ranks(scores, owners[held_out])) - 1 / (1 + _ranks(plain, owners[held_out]))
    worse = set()
    for name in sorted(set(category.values())):
        own = np.array([category[product] == name for product in owners[held_out]])
        count = len(np.unique(owners[held_out][own]))
        mean = gains[own].mean()
        if mean < 0:
            worse.add(name)
        if count >= MIN_PRODUCTS:
            groups = np.unique(owners[held_out][own], return_inverse=True)[1]
            noise = np.sqrt((np.bincount(groups, gains[own] - mean) ** 2).sum()) / own.sum()
            print(f"{name:12} {count:3} products, gain of mrr {mean:+.3f}, noise {noise:.3f}")
    print(f"The head loses in {len(worse)} of {len(set(category.values()))} categories: {', '.join(sorted(worse))}")
    uses_head = np.array([category[product] not in worse for product in range(len(number))])
    head = _head(known, owners)
    asked_scores = _best(head(known), owners, head(asked))
    asked_plain = _best(_unit(known), owners, _unit(asked))
    for name, with_head, without, right in (
        ("views", scores, plain, owners[held_out]),
        ("queries", asked_scores, asked_plain, truth),
    ):
        mixed = np.where(uses_head, _standard(with_head, right), _standard(without, right))
        figures = [f"{(_ranks(one, right) < 1).mean():.3f}" for one in (without, with_head, mixed)]
        print(f"{name}: recall@1 {figures[0]} plain, {figures[1]} with the head, {figures[2]} mixed by category")


def _head(vectors: Floats, owners: Ints) -> Any:
    from gpu.heads import Head
    from matching.learning.discriminant import Scatter, fit

    scatter = Scatter.empty(vectors.shape[1])
    scatter.add(vectors, owners)
    return Head("measured", (), *fit(scatter), score_floor=0.0).apply


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _best(gallery: Floats, owners: Ints, asked: Floats) -> Scores:
    """Return the best dot product with each product's images, (queries, products)."""
    order = np.argsort(owners, kind="stable")
    starts = np.unique(owners[order], return_index=True)[1]
    return np.asarray(np.maximum.reduceat(asked @ gallery[order].T, starts, axis=1), np.float64)


def _ranks(scores: Scores, right: Ints) -> Ints:
    return np.asarray((scores > scores[np.arange(len(right)), right][:, None]).sum(axis=1), np.int64)


def _standard(scores: Scores, right: Ints) -> Scores:
    """Return scores with mean 0 and deviation 1 among the wrong products."""
    wrong = np.ones(scores.shape, bool)
    wrong[np.arange(len(right)), right] = False
    return np.asarray((scores - scores[wrong].mean()) / scores[wrong].std())


if __name__ == "__main__":
    main()
