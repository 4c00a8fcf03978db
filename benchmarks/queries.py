"""Measure how long a query waits while a worker embeds a catalogue.

    python -m benchmarks.queries --images FOLDER [--model FOLDER] [--n 5000] [--json PATH]

Starts Redis, the web server and one worker on an empty database and queues the images in FOLDER, again and again
until there are enough. Then it sends ``POST /api/match`` at random moments until the queue is empty. Without
``--model`` the model is a ViT-B/32 with random weights, which costs as much as the real one.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import json
import random
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

from benchmarks.installation import celery_worker, environment, manage, multipart_form, web_server
from benchmarks.machine import describe_machine, print_machine
from benchmarks.random_clip import build
from benchmarks.servers import redis_server

FIRST_BATCH_SECONDS = 300

Call = Callable[..., Any]


def api(url: str, token: str) -> Call:
    """Return a function that sends one request, with an image or without, and returns the JSON. Raises HTTPError."""

    def call(path: str, image: bytes | None = None) -> Any:
        headers = {"Authorization": f"Token {token}"}
        body = None
        if image is not None:
            body, headers["Content-Type"] = multipart_form(image)
        with urllib.request.urlopen(urllib.request.Request(f"{url}{path}", body, headers), timeout=90) as response:
            return json.load(response)

    return call


def write_table(path: Path, images: list[Path], count: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "image"])
        writer.writerows([f"SKU-{n}", str(image.resolve())] for n, image in enumerate(islice(cycle(images), count)))


def measure(call: Call, images: list[Path], seed: int = 1) -> dict[str, Any]:
    """Return the seconds that queries waited, and the seconds of one batch at the worker's rate in that time."""
    # The first batch loads the model. A query before its end would measure the loading.
    deadline = time.monotonic() + FIRST_BATCH_SECONDS
    while not (first_ready := call("/api/queue")["ready"]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"The worker finished no batch within {FIRST_BATCH_SECONDS} seconds.")
        time.sleep(0.05)
    rng = random.Random(seed)
    waited, batches, start = [], [], time.monotonic()
    while (queue := call("/api/queue"))["pending"]:
        batches.append(queue["claimed"])
        time.sleep(rng.uniform(0.2, 2.0))
        sent = time.monotonic()
        call("/api/match?wait=60", rng.choice(images).read_bytes())
        waited.append(time.monotonic() - sent)
    if not waited:
        raise RuntimeError("The worker embedded everything before the first query. Queue more images.")
    rate = (queue["ready"] - first_ready) / (time.monotonic() - start)
    batch_seconds = max(batches) / rate
    return {
        "queries": len(waited),
        "images_per_s": round(rate, 2),
        "batch": max(batches),
        "batch_s": round(batch_seconds, 3),
        "median_s": round(statistics.median(waited), 3),
        "p95_s": round(sorted(waited)[int(0.95 * (len(waited) - 1))], 3),
        "max_s": round(max(waited), 3),
        "within_two_batches": round(sum(seconds <= 2 * batch_seconds for seconds in waited) / len(waited), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of JPEG images")
    parser.add_argument("--model", type=Path, help="a CLIP in the hub's layout (default: ViT-B/32, random weights)")
    parser.add_argument("--n", type=int, default=5000, help="images to queue")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    images = sorted(options.images.rglob("*.jpg"))
    with tempfile.TemporaryDirectory(prefix="catalogmatch-queries-") as name:
        folder = Path(name)
        model = options.model or build(folder / "ViT-B-32-random", "ViT-B-32")
        print_machine()
        print(f"model: {model.name}, {len(images)} different images")
        write_table(folder / "catalogue.csv", images, options.n)
        with redis_server(folder) as broker:
            env = environment(folder / "data", CELERY_BROKER_URL=broker, CLIP_MODEL=str(model.resolve()))
            with web_server(env) as (url, token):
                manage(env, "import_products", str(folder / "catalogue.csv"), "--historical")
                with celery_worker(env):
                    row = {"images": options.n} | measure(api(url, token), images)
    for key, value in row.items():
        print(f"{key:20} {value}")
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "rows": [row]}, indent=2))


if __name__ == "__main__":
    main()
