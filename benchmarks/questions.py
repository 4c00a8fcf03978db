"""How long a question waits while a worker reindexes a catalogue.

    python -m benchmarks.questions --images DIR [--model DIR] [--pictures 5000] [--json PATH]

Starts Redis, the web server and one worker on a database of its own, fills the catalogue from the pictures in DIR
(again and again, until there are enough), queues all of them, and asks ``POST /api/match`` at random moments until
the queue is empty. Without ``--model`` it measures a ViT-B/32 with random weights, which costs what the real one costs.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Instead of this file's folder, whose http.py would hide Python's own.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import json
import random
import statistics
import tempfile
import time
from itertools import cycle, islice
from typing import Any

from django.conf import settings

from benchmarks.machine import describe_machine, print_machine
from benchmarks.random_clip import build
from tests.processes import Stack, wait_until


def measure(stack: Stack, pictures: list[Path], wanted: int, seed: int = 1) -> dict[str, Any]:
    """Seconds that questions waited, and the seconds of one batch at the rate the worker had meanwhile."""
    table = stack.folder / "catalogue.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "image"])
        writer.writerows([f"SKU-{n}", str(path.resolve())] for n, path in enumerate(islice(cycle(pictures), wanted)))
    stack.manage("import_products", str(table), "--historical")
    stack.start_worker()
    # The first batch loads the model; a question before that would measure the loading.
    wait_until(lambda: stack.call("GET", "/api/queue").body["ready"] > 0, 300, "the first batch is done")
    chance = random.Random(seed)
    waited, batches = [], []
    first_ready, began = stack.call("GET", "/api/queue").body["ready"], time.monotonic()
    while stack.call("GET", "/api/queue").body["pending"]:
        time.sleep(chance.uniform(0.2, 2.0))
        batches.append(stack.claimed())
        asked = time.monotonic()
        answer = stack.ask(chance.choice(pictures).read_bytes(), wait=60)
        waited.append(time.monotonic() - asked)
        if answer.status != 200:
            raise RuntimeError(f"a question was answered with {answer.status}: {answer.body}")
    rate = (stack.call("GET", "/api/queue").body["ready"] - first_ready) / (time.monotonic() - began)
    batch = max(batches) / rate
    return {
        "pictures": wanted,
        "questions": len(waited),
        "images_per_s": round(rate, 2),
        "batch": max(batches),
        "batch_s": round(batch, 3),
        "median_s": round(statistics.median(waited), 3),
        "p95_s": round(sorted(waited)[int(0.95 * (len(waited) - 1))], 3),
        "max_s": round(max(waited), 3),
        "within_two_batches": round(sum(seconds <= 2 * batch for seconds in waited) / len(waited), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of JPEG pictures")
    parser.add_argument("--model", type=Path, help="a CLIP in the hub's layout (default: ViT-B/32, random weights)")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings.configure()  # for the form encoder; the installation's own settings are its processes'
    pictures = sorted(options.images.rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or build(Path(folder) / "ViT-B-32-random", "ViT-B-32")
        print_machine()
        print(f"model: {model.name}, {len(pictures)} different pictures")
        stack = Stack(
            Path(folder),
            CLIP_MODEL=str(model),
            CLIP_BATCH_SIZE="0",
            CATALOGMATCH_CLAIM_LEASE_SECONDS="120",
            CATALOGMATCH_SWEEP_SECONDS="30",
            DJANGO_SECRET_KEY="for a benchmark only",
        )
        try:
            stack.start()
            row = measure(stack, pictures, options.pictures)
        finally:
            stack.close()
    for name, value in row.items():
        print(f"{name:20} {value}")
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "rows": [row]}, indent=2))


if __name__ == "__main__":
    main()
