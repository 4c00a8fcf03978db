"""Simulate the order of review: how many decisions "most useful first" needs, against random order.

    python -m benchmarks.review_order IMAGES ENCODER.onnx [--seeds 5] [--views 3] [--cache FILE.npz]

IMAGES is a folder with ``catalogue.csv`` (one image a product), ``views.csv`` and ``queries.csv``. All three have the
columns image and sku. For each seed, 30 % of the products are left out of the catalogue. Some views of each other
product are catalogue images; all other views are arrivals, which wait for a decision. Every 20 decisions the head is
learned again, with confirmed arrivals as views. The probabilities are adjusted to the decisions, by the functions that
the program uses. Then recall and calibration error are measured, on a third of the arrivals that is never decided, and
on ``queries.csv``. All orders see the same catalogue and the same arrivals.

Printed are the figures after some numbers of decisions, and how many decisions each order needs for a recall and a
calibration error, with the mean difference and its 95 % interval over seeds. ``--cache`` keeps the vectors.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# "honest" is "useful", but only its random half adjusts the probabilities.
ORDERS = ("random", "useful", "honest")
MEASURED_SETS = ("views", "queries")
STEP, LAST = 20, 200
SHARE_LEFT_OUT = 0.3
DIRECTIONS = 500  # a head keeps 300 of its own

Floats = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--views", type=int, default=3, help="images of a catalogue product, besides its first")
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="review-order-") as folder:
        os.environ |= {
            "CATALOGMATCH_DATA_DIR": folder, "DJANGO_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
            "CLIP_MODEL": str(options.encoder.resolve()), "CELERY_BROKER_URL": "",
        }  # fmt: skip
        import django

        django.setup()
        vectors = _reduced(joined_vectors(options.images.resolve(), options.cache))
        runs = {
            order: [_simulate(options.images, vectors, seed, order, options.views) for seed in range(options.seeds)]
            for order in ORDERS
        }
    _print(runs)


def joined_vectors(images: Path, cache: Path | None) -> dict[str, Floats]:
    """Return the joined vector of each image, encoder first."""
    if cache is not None and cache.is_file():
        stored = np.load(cache)
        return dict(zip(stored["names"].tolist(), stored["vectors"], strict=True))
    from django.core.management import call_command

    from gpu.images import read_file
    from gpu.search_vectors import search_vector
    from gpu.vectors import CLIP
    from matching import service
    from matching.learning.training import LEGACY_WEIGHT
    from products.images.cleaning import Upload

    call_command("migrate", verbosity=0)
    found = {}
    for table in ("catalogue", "views", "queries"):
        for name in (row["image"] for row in read_rows(images, table)):
            features, _version = service.features_of_images([Upload(read_file(images / name), name)])
            ordered = sorted(features, key=lambda one: one.kind != CLIP)
            weights = [1.0 if one.kind == CLIP else LEGACY_WEIGHT for one in ordered]
            parts = [np.float32(weight) * search_vector(one) for weight, one in zip(weights, ordered, strict=True)]
            found[name] = np.concatenate(parts)
    if cache is not None:
        np.savez(cache, names=list(found), vectors=np.array(list(found.values())))
    return found


def _reduced(vectors: dict[str, Floats]) -> dict[str, Floats]:
    """Return the vectors along their main directions, where learning a head takes a tenth of the time."""
    joined = np.array(list(vectors.values()))
    _left, _spread, directions = np.linalg.svd(joined, full_matrices=False)
    return dict(zip(vectors, joined @ directions[:DIRECTIONS].T, strict=True))


def read_rows(images: Path, table: str) -> list[dict[str, str]]:
    with (images / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class _Catalogue:
    """What is known so far: views by product, the head that they give, and the probabilities on day zero."""

    def __init__(self, vectors: Floats, products: npt.NDArray[np.int64]) -> None:
        from matching.answers.catalogue_questions import ask_views
        from matching.answers.choice import fit as fit_choice
        from matching.learning.views import Views

        self.vectors, self.products = vectors, products
        self.learn([], [])
        order = np.argsort(products, kind="stable")
        views = Views(vectors[order], products[order], np.arange(len(products)))
        self.day_zero = fit_choice(ask_views(views, "head", self.head, np.random.default_rng(0)))

    def learn(self, confirmed: list[Floats], owners: list[int]) -> None:
        """Learn the head from the views and from confirmed arrivals, which then are searched, too."""
        from gpu.heads import Head
        from matching.learning.discriminant import Scatter, fit

        vectors = np.concatenate([self.vectors, np.array(confirmed, np.float32).reshape(-1, self.vectors.shape[1])])
        products = np.concatenate([self.products, np.array(owners, np.int64)])
        scatter = Scatter.empty(vectors.shape[1])
        scatter.add(vectors, products)
        self.head = Head("simulated", (), *fit(scatter), score_floor=0.0)
        order = np.argsort(products, kind="stable")
        self.ids, self.starts = np.unique(products[order], return_index=True)
        self.gallery = self.head.apply(vectors[order])

    def ask(self, vectors: Floats, truth: npt.NDArray[np.int64]) -> Any:
        """Return the questions about these images, and the products that came first."""
        from matching.answers.choice import CONSIDERED, Questions, image_terms
        from matching.similarity import score_of

        best = np.maximum.reduceat(self.head.apply(vectors) @ self.gallery.T, self.starts, axis=1).astype(np.float64)
        places = np.argsort(-best, axis=1, kind="stable")[:, :CONSIDERED]
        score = np.vectorize(lambda dot: score_of(dot, "head", 0.0) / 100, otypes=[float])
        terms = image_terms(score(np.take_along_axis(best, places, axis=1)))
        is_right = self.ids[places] == truth[:, None]
        right = np.where(is_right.any(axis=1), is_right.argmax(axis=1), CONSIDERED)
        return Questions(terms, np.zeros(places.shape), right, np.ones(len(right)), truth), self.ids[places]


def _simulate(images: Path, vectors: dict[str, Floats], seed: int, order: str, views: int) -> list[dict[str, float]]:
    from matching.answers.choice import CONSIDERED, Questions, adjust
    from matching.answers.figures import expected_calibration_error
    from matching.review.usefulness import is_random

    draw = random.Random(seed)  # nosec B311 # no secret
    first, others, queries = (read_rows(images, table) for table in ("catalogue", "views", "queries"))
    number = {row["sku"]: place for place, row in enumerate(first, start=1)}
    left_out = set(draw.sample(sorted(number), round(SHARE_LEFT_OUT * len(number))))
    draw.shuffle(others)
    catalogue, taken = [row for row in first if row["sku"] not in left_out], dict.fromkeys(number, 0)
    arrivals: list[dict[str, str]] = []
    for row in others:
        taken[row["sku"]] += 1
        is_view = row["sku"] not in left_out and taken[row["sku"]] <= views
        (catalogue if is_view else arrivals).append(row)

    def of(rows: list[dict[str, str]]) -> tuple[Floats, npt.NDArray[np.int64]]:
        return np.array([vectors[row["image"]] for row in rows]), np.array([number[row["sku"]] for row in rows])

    known = _Catalogue(*of(catalogue))
    measured = {"views": of(arrivals[::3]), "queries": of(queries)}
    waiting, waiting_truth = of([row for place, row in enumerate(arrivals) if place % 3])
    ids = draw.sample(range(1, 1_000_000), len(waiting))  # ids of the cases, which say their half
    decided: list[int] = []
    told: list[Any] = []  # what was decided, as it was asked before
    rows, model = [], known.day_zero
    for count in range(0, LAST + 1, STEP):
        if count:
            questions, _found = known.ask(waiting, waiting_truth)
            surest = model.probabilities(questions.terms, questions.facts).max(axis=1)
            chosen = _choose(order, surest, ids, decided, is_random)
            telling = [place for place in chosen if order != "honest" or is_random(ids[place])]
            told.append(questions.chosen(np.array(telling)))
            decided += chosen
            right = [place for place in decided if waiting_truth[place] in known.ids]
            known.learn([waiting[place] for place in right], [int(waiting_truth[place]) for place in right])
            model = adjust(known.day_zero, Questions.joined(told))
        figures = {"decisions": float(count)}
        for name, (asked, truth) in measured.items():
            final, found = known.ask(asked, truth)
            probabilities = model.probabilities(final.terms, final.facts)[:, :CONSIDERED]
            place = probabilities.argmax(axis=1)
            is_known = np.isin(truth, known.ids)
            figures[f"{name} recall"] = float((found[is_known, 0] == truth[is_known]).mean())
            is_right = found[np.arange(len(place)), place] == truth
            figures[f"{name} ece"] = expected_calibration_error(probabilities.max(axis=1), is_right)
        rows.append(figures)
    return rows


def _choose(
    order: str, surest: npt.NDArray[np.float64], ids: list[int], decided: list[int], is_random: Any
) -> list[int]:
    """Return the places of the next cases."""
    done = set(decided)
    at_random = [place for place in np.argsort(ids).tolist() if place not in done]
    if order == "random":
        return at_random[:STEP]
    uncertain = [place for place in np.argsort(surest, kind="stable").tolist() if place not in done]
    uncertain = [place for place in uncertain if not is_random(ids[place])]
    at_random = [place for place in at_random if is_random(ids[place])]
    half = STEP // 2
    return uncertain[:half] + at_random[:half]


def _print(runs: dict[str, list[list[dict[str, float]]]]) -> None:
    for name in MEASURED_SETS:
        columns = [(figure, order) for figure in ("recall", "ece") for order in ORDERS]
        print(f"{name:>9}", *(f"{figure + ', ' + order:>16}" for figure, order in columns))
        for place in range(LAST // STEP + 1):
            means = [np.mean([run[place][f"{name} {figure}"] for run in runs[order]]) for figure, order in columns]
            print(f"{place * STEP:>9}", *(f"{mean:>16.3f}" for mean in means))
    for figure, sign in (("recall", 1), ("ece", -1)):
        for target in _targets(runs, f"queries {figure}"):
            needed = {
                order: np.array([_needed(run, f"queries {figure}", sign, target) for run in runs[order]])
                for order in ORDERS
            }
            texts = [f"{needed['random'].mean():.0f} decisions in random order"]
            for order in ORDERS[1:]:
                saved = needed["random"] - needed[order]
                margin = 1.96 * saved.std(ddof=1) / np.sqrt(len(saved)) if len(saved) > 1 else float("nan")
                texts.append(f"{needed[order].mean():.0f} {order} ({saved.mean():+.0f} ± {margin:.0f} saved)")
            print(f"{figure} {target:.3f}: " + ", ".join(texts))


def _targets(runs: dict[str, list[list[dict[str, float]]]], figure: str) -> list[float]:
    """Return what random order reaches on average after 60, 120 and 180 decisions."""
    return [float(np.mean([run[count // STEP][figure] for run in runs["random"]])) for count in (60, 120, 180)]


def _needed(run: list[dict[str, float]], figure: str, sign: int, target: float) -> float:
    """Return after how many decisions a figure first reaches the target, or one step more than the last."""
    reached = [row["decisions"] for row in run if sign * row[figure] >= sign * target]
    return reached[0] if reached else LAST + STEP


if __name__ == "__main__":
    main()
