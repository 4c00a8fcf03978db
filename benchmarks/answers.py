"""Measure answers: calibration, "not in the catalogue", and what is promised, on arrivals whose truth is known.

    python -m benchmarks.answers IMAGES [ENCODER.onnx] [--seeds 11,12,13] [--json PATH]

IMAGES is a folder with ``catalogue.csv`` (one image a product), ``views.csv`` and ``queries.csv``. All three have the
columns image and sku. For each seed, 30 % of the products are left out of the catalogue. Five views of each other
product are catalogue images, and the others arrivals. A head is learned from the catalogue if there is an encoder. The
answers are calibrated and measured on day zero, and after 50 and 200 decisions.

Decisions are about arrivals of one half of the products. Measured are the queries and the arrivals of the other half.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DECISIONS = (0, 50, 200)
SHARE_LEFT_OUT = 0.3
CATALOGUE_VIEWS = 5  # of each product, besides its first image
FIGURES = ("ece", "ece_if_perfect", "brier", "auroc", "sure", "right_if_sure", "same", "new", "look")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("encoder", type=Path, nargs="?")
    parser.add_argument("--seeds", default="11,12,13")
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    if options.one:
        print(json.dumps(_measure_seed(options.images.resolve(), options.encoder, seeds[0])))
        return
    # Each seed in a process of its own, because Django knows one database.
    results = [_run_one(options, seed) for seed in seeds]
    print(f"{'decisions':>9} {'n':>5}", *(f"{name:>14}" for name in FIGURES))
    for place, count in enumerate(DECISIONS):
        rows = [result[place] for result in results]
        means = [_mean([row[name] for row in rows]) for name in FIGURES]
        print(f"{count:>9} {sum(row['n'] for row in rows):>5}", *(f"{mean:>14.3f}" for mean in means))
    if options.json:
        options.json.write_text(json.dumps(dict(zip(map(str, seeds), results, strict=True)), indent=2) + "\n")


def _run_one(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.answers", str(options.images), "--one", "--seeds", str(seed)]
    if options.encoder:
        command.insert(4, str(options.encoder))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else float("nan")


def _measure_seed(images: Path, encoder: Path | None, seed: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="answers-") as folder:
        os.environ |= {
            "CATALOGMATCH_DATA_DIR": folder, "DJANGO_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
            "CELERY_BROKER_URL": "", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        if encoder is not None:
            os.environ["CLIP_MODEL"] = str(encoder.resolve())
        import django

        django.setup()
        return _simulate(images, Path(folder), seed, with_head=encoder is not None)


def _simulate(images: Path, folder: Path, seed: int, *, with_head: bool) -> list[dict[str, Any]]:
    from django.contrib.auth.models import User
    from django.core.management import call_command

    draw = random.Random(seed)  # nosec B311 # no secret
    first, views, queries = (_read(images / f"{name}.csv") for name in ("catalogue", "views", "queries"))
    skus = sorted(first)
    left_out = set(draw.sample(skus, round(SHARE_LEFT_OUT * len(skus))))
    decided_half = set(draw.sample(skus, len(skus) // 2))
    kept, arrivals = {}, {}
    for sku, paths in views.items():
        chosen = draw.sample(paths, len(paths))
        kept[sku], arrivals[sku] = chosen[:CATALOGUE_VIEWS], chosen[CATALOGUE_VIEWS:]
    call_command("migrate", verbosity=0)
    catalogue = [(sku, path) for sku in skus if sku not in left_out for path in (*first[sku], *kept.get(sku, []))]
    _import(catalogue, images, folder / "catalogue.csv", historical=True)
    if with_head:
        _manage("train_head", "--adopt")
    to_decide = [(sku, path) for sku in sorted(decided_half) for path in arrivals.get(sku, [])]
    draw.shuffle(to_decide)
    truth = {f"ARRIVAL-{number:04}": sku for number, (sku, _path) in enumerate(to_decide)}
    _import(
        [(arrival, path) for arrival, (_sku, path) in zip(truth, to_decide, strict=True)], images,
        folder / "arrivals.csv", historical=False,
    )  # fmt: skip
    asked = [
        (sku, images / path)
        for sku in skus
        if sku not in decided_half
        for path in (*queries.get(sku, []), *arrivals.get(sku, []))
    ]
    features = _features(asked)
    reviewer = User.objects.create_user("reviewer")
    results, decided = [], 0
    for count in DECISIONS:
        for arrival in list(truth)[decided:count]:
            _decide(arrival, truth[arrival], reviewer)
        decided = count
        _manage("calibrate")
        results.append(_measure(features, [sku for sku, _path in asked], left_out))
    return results


def _read(table: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["sku"], []).append(row["image"])
    return found


def _import(rows: list[tuple[str, str]], images: Path, table: Path, *, historical: bool) -> None:
    from django.core.management import call_command

    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "image"])
        writer.writerows((sku, images / path) for sku, path in rows)
    call_command("import_products", str(table), historical=historical, stdout=sys.stderr)


def _manage(*command: str) -> None:
    """Run a command in a process of its own, because it lowers the priority of its process for good."""
    subprocess.run([sys.executable, "manage.py", *command], check=True, stdout=sys.stderr)


def _features(asked: list[tuple[str, Path]]) -> list[Any]:
    from gpu.images import read_file
    from matching import service
    from products.images.cleaning import Upload

    return [service.features_of_images([Upload(read_file(path), path.name)]) for _sku, path in asked]


def _decide(arrival: str, true_sku: str, reviewer: Any) -> None:
    from matching.review.decisions import Choice, decide
    from matching.service import find_and_save_matches
    from products.models import Product

    product = Product.objects.get(sku=arrival)
    found = find_and_save_matches(product.pk, threshold=0, limit=20)
    right = [candidate.product.pk for candidate in found.candidates if candidate.product.sku == true_sku]
    decide(product.pk, Choice("same" if right else "new", right), reviewer)


def _measure(features: list[Any], truth: list[str], left_out: set[str]) -> dict[str, Any]:
    import numpy as np

    from matching import service
    from matching.answers import figures

    results = [service.search_features(of_image, head, 0, 1) for of_image, head in features]
    best = np.array([result.candidates[0].probability for result in results])
    right = np.array([result.candidates[0].product.sku == sku for result, sku in zip(results, truth, strict=True)])
    none = np.array([result.not_in_catalogue for result in results])
    sure = best >= 0.95
    rng = np.random.default_rng(0)
    perfect = [figures.expected_calibration_error(best, rng.random(len(best)) < best) for _ in range(50)]
    answers = [str(result.answer) for result in results]
    return {
        "n": len(truth),
        "ece": figures.expected_calibration_error(best, right),
        "ece_if_perfect": float(np.mean(perfect)),
        "brier": figures.brier_score(best, right),
        "auroc": figures.area_under_roc(none, np.array([sku in left_out for sku in truth])),
        "sure": float(sure.mean()),
        "right_if_sure": float(right[sure].mean()) if sure.any() else None,
        "sure_count": int(sure.sum()),
        "sure_right": int(right[sure].sum()),
        **{name: answers.count(name) / len(answers) for name in ("same", "new", "look")},
    }


if __name__ == "__main__":
    main()
