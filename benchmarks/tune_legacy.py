"""Compare parameters of the legacy features and their score on further images of products.

    python -m benchmarks.tune_legacy FOLDER

FOLDER has the tables ``catalogue.csv`` and ``views.csv`` with the columns image and sku. Images of one product are
named PRODUCT_NUMBER.jpg. Each of them is a query against all other images, and a product scores by its best image.
Keep the queries of an evaluation out of the tables, so that the parameters are not fitted to them.

Images taken together are far more similar than those of a later visit. So each query leaves out some images of its own
product, in four ways, and the mean decides: those with numbers at most 8 apart; at most 12 apart; at most 2 apart and
the 2 most similar by a plain RGB histogram; at most 2 apart and the 4 most similar.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpu import legacy, search_vectors
from gpu.images import decode

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class QuerySet:
    """Images, the product that each shows, and the images that each query leaves out."""

    def __init__(self, folder: Path) -> None:
        rows = [row for name in ("catalogue.csv", "views.csv") for row in _read_table(folder / name)]
        self.images = [decode(folder / row["image"]) for row in rows]
        self.products = np.unique([row["sku"] for row in rows], return_inverse=True)[1]
        self.is_query = np.array([re.search(r"_(\d+)\.\w+$", row["image"]) is not None for row in rows])
        numbers = np.array([int(re.findall(r"\d+", row["image"])[-1]) for row in rows])
        same = (self.products[:, None] == self.products) & self.is_query[:, None] & self.is_query
        apart = np.abs(numbers[:, None] - numbers)
        plain = unit(np.sqrt(np.array([rgb_histogram(image) for image in self.images])))
        similarity_to_own = np.where(same & (apart > 0), plain @ plain.T, -1.0)
        order = np.argsort(np.argsort(-similarity_to_own, axis=1), axis=1)
        self.left_out: list[Mask] = [same & (apart <= 8), same & (apart <= 12)]
        self.left_out += [same & ((apart <= 2) | (order < nearest)) for nearest in (2, 4)]

    def recalls(self, vectors: Doubles) -> Doubles:
        """Return recall@1 and recall@5 for each way of leaving out, (4, 2)."""
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -2.0)
        recalls = []
        for mask in self.left_out:
            allowed = np.where(mask, -2.0, scores)[self.is_query]
            best = np.full((len(allowed), self.products.max() + 1), -2.0)
            for product in range(best.shape[1]):
                best[:, product] = allowed[:, self.products == product].max(axis=1)
            true = best[np.arange(len(best)), self.products[self.is_query]]
            ranks = (best > true[:, None]).sum(axis=1)
            recalls.append([(ranks < 1).mean(), (ranks < 5).mean()])
        return np.array(recalls)


def rgb_histogram(image: Image.Image) -> Doubles:
    """Return the share of each of 8 x 8 x 4 colours, (256,). The tuned histogram is compared with it."""
    red, green, blue = np.moveaxis(np.asarray(image.resize((128, 128))).astype(np.intp), -1, 0)
    counts = np.bincount(((red // 32 * 8 + green // 32) * 4 + blue // 64).ravel(), minlength=256)
    return np.asarray(counts / red.size)


def unit(vectors: Doubles) -> Doubles:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@contextmanager
def override(module: Any, **values: Any) -> Iterator[None]:
    original = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        legacy._color_tables.cache_clear()
        yield
    finally:
        for name, value in original.items():
            setattr(module, name, value)
        legacy._color_tables.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with catalogue.csv, views.csv and their images")
    queries = QuerySet(parser.parse_args().folder)

    def show(name: str, vectors: Doubles) -> None:
        recalls = queries.recalls(vectors)
        columns = "  ".join(f"{first:.3f}/{fifth:.3f}" for first, fifth in recalls)
        print(f"{name:<56} {recalls.mean():.3f}   {columns}", flush=True)

    def tuned() -> Doubles:
        features = [legacy.extract_legacy(image) for image in queries.images]
        return np.array([search_vectors.search_vector(feature) for feature in features], dtype=np.float64)

    title = f"recall@1/recall@5 of {queries.is_query.sum()} queries"
    print(f"{title:<56} mean    <=8  <=12  <=2 and 2  <=2 and 4")
    plain = np.array([rgb_histogram(image) for image in queries.images])
    show("plain RGB histogram, cosine of roots", unit(np.sqrt(plain)))
    show("current parameters", tuned())
    trials: list[tuple[Any, dict[str, Any]]] = [
        (search_vectors, {"COLOR_WEIGHT": 1.0, "TEXTURE_WEIGHT": 0.0, "SHAPE_WEIGHT": 0.0}),
        (search_vectors, {"COLOR_WEIGHT": 0.0, "TEXTURE_WEIGHT": 1.0, "SHAPE_WEIGHT": 0.0}),
        (search_vectors, {"COLOR_WEIGHT": 0.0, "TEXTURE_WEIGHT": 0.0, "SHAPE_WEIGHT": 1.0}),
        (search_vectors, {"COLOR_WEIGHT": 0.75, "SHAPE_WEIGHT": 0.0}),
        (search_vectors, {"COLOR_WEIGHT": 0.83, "TEXTURE_WEIGHT": 0.15}),
        (search_vectors, {"COLOR_WEIGHT": 0.63, "TEXTURE_WEIGHT": 0.35}),
        (search_vectors, {"COLOR_POWER": 1.0}),
        (search_vectors, {"COLOR_POWER": 0.8}),
        (search_vectors, {"COLOR_POWER": 0.5}),
        (legacy, {"COLOR_SPREAD": 100.0}),
        (legacy, {"COLOR_SPREAD": 0.25}),
        (legacy, {"COLOR_SPREAD": 0.15}),
        (legacy, {"GREY_WEIGHT": 1.0}),
        (legacy, {"GREY_WEIGHT": 0.2}),
        (legacy, {"TEXTURE_RADIUS": 1}),
        (legacy, {"TEXTURE_RADIUS": 2}),
        (legacy, {"TEXTURE_RADIUS": 4}),
        (legacy, {"SIDE": 96}),
        (legacy, {"SIDE": 192}),
    ]
    for module, values in trials:
        with override(module, **values):
            show(", ".join(f"{name} {value}" for name, value in values.items()), tuned())
    uncentred: Callable[[npt.NDArray[Any], float], Doubles] = lambda stored, power: unit(  # noqa: E731
        (np.asarray(stored, dtype=np.float64)[None] / 255) ** power
    )[0]
    with override(search_vectors, _histogram_vector=uncentred):
        show("overlap (cosine) instead of correlation", tuned())


def _read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
