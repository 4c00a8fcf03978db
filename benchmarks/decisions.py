"""Simulate decisions: one studio image a product, photographs arrive, and some of them are confirmed.

    python -m benchmarks.decisions IMAGES ENCODER.onnx

IMAGES is a folder with ``catalogue.csv`` (one image a product), ``views.csv`` (the arrivals) and ``queries.csv``. All
three have the columns image and sku. After 0, 50, 200 and 800 decisions a head is learned and adopted if it wins, by
the command. Then the queries are searched. A decision confirms the true candidate and rejects those above it. Which
arrivals are decided is drawn with a fixed seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DECISIONS = (0, 50, 200, 800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="decisions-") as folder:
        os.environ |= {
            "CATALOGMATCH_DATA_DIR": folder, "DJANGO_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
            "CLIP_MODEL": str(options.encoder.resolve()), "CELERY_BROKER_URL": "",
        }  # fmt: skip
        import django

        django.setup()
        _simulate(options.images.resolve(), Path(folder), options.seed)


def _simulate(images: Path, folder: Path, seed: int) -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from matching.service import find_and_save_matches
    from products.models import Product

    call_command("migrate", verbosity=0)
    call_command("import_products", str(images / "catalogue.csv"), historical=True)
    truth = _import_arrivals(images, folder)
    reviewer = User.objects.create_user("reviewer")
    arrivals = sorted(truth)
    random.Random(seed).shuffle(arrivals)  # nosec B311 # no secret
    decided = 0
    for count in DECISIONS:
        for sku in arrivals[decided:count]:
            product = Product.objects.get(sku=sku)
            find_and_save_matches(product.pk, threshold=0, limit=1000)
            _decide(product, truth[sku], reviewer)
        decided = count
        learned = _train(folder)
        report = folder / "evaluation.json"
        call_command("evaluate_matching", str(images / "queries.csv"), report=report)
        figures = json.loads(report.read_text())
        print(
            f"{count} decisions: recall@1 {figures['recall@1']:.3f}, recall@5 {figures['recall@5']:.3f}, "
            f"by {figures['compared_by']}. {learned}",
            flush=True,
        )


def _import_arrivals(images: Path, folder: Path) -> dict[str, str]:
    """Import each image of views.csv as a new product. Return the true SKU by the arrival's."""
    from django.core.management import call_command

    with (images / "views.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    truth = {f"ARRIVAL-{number:04}": row["sku"] for number, row in enumerate(rows)}
    table = folder / "arrivals.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "image"])
        writer.writerows((sku, images / row["image"]) for sku, row in zip(truth, rows, strict=True))
    call_command("import_products", str(table))
    return truth


def _decide(product: Any, true_sku: str, reviewer: Any) -> None:
    from matching.review import verdicts

    for match in product.matches.select_related("candidate").order_by("rank"):
        is_true = match.candidate.sku == true_sku
        verdicts.set_verdict(match.pk, "confirmed" if is_true else "rejected", reviewer)
        if is_true:
            return


def _train(folder: Path) -> str:
    report = folder / "head.json"
    # In a process of its own, because the command lowers the priority of its process for good.
    command = [sys.executable, "manage.py", "train_head", "--adopt", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.splitlines()[-1]
    figures = json.loads(report.read_text())
    verdict = "adopted" if figures["adopted"] else "not adopted"
    return f"{figures['version']} {verdict}, gain {figures['gain']:+.3f}, noise {figures['noise']:.3f}"


if __name__ == "__main__":
    main()
