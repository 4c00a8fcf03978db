"""Switch the model and roll back during a load of searches, and search while a head is learned.

    python -m benchmarks.model_switch [--n 2000] [--seconds 10] [--clients 4] [--json PATH]

Starts Redis, two web processes and a worker on SQLite, with a catalogue of legacy features that a head can learn from.
Clients match new products and images that are not stored, each as soon as it has the last response. Figures:

- errors: responses other than 200;
- mixed: responses whose candidates are not those that the version they name gives to the same query;
- stale_s: how long after the end of a switch the old version still answered, 0 if not at all;
- p95_ms_alone, p95_ms_learning, ratio: without and with a head being learned, in turns within one run.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import hashlib
import http.client
import io
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.installation import REPO, celery_worker, environment, manage, multipart_form, web_server
from benchmarks.machine import print_machine
from benchmarks.servers import redis_server

JSON = "application/json"
VIEWS, NEW_PRODUCTS, IMAGES = 3, 30, 5
TURNS = 3  # of searches alone and while a head is learned


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its query, when it was sent and received, the version that it names, and its candidates."""

    query: str
    sent: float
    received: float
    status: int
    version: str
    candidates: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="products of three views each (default: 2,000)")
    parser.add_argument("--seconds", type=float, default=10, help="of each part (default: 10)")
    parser.add_argument("--clients", type=int, default=4, help="default: 4")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="switch-") as folder:
        figures = measure(Path(folder), options.n, options.seconds, options.clients)
    for name, value in figures.items():
        print(f"{name:18} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder: Path, n: int, seconds: float, clients: int, *, learning: bool = True) -> dict[str, Any]:
    """Run the whole benchmark in this folder and return its figures."""
    with redis_server(folder) as broker:
        env = environment(folder / "data", CELERY_BROKER_URL=broker, CATALOGMATCH_SWEEP_SECONDS="2")
        with web_server(env, workers=2) as (url, token), celery_worker(env):
            filling = f"from benchmarks.model_switch import fill; fill({n})"
            manage(env, "shell", "--verbosity", "0", "--command", filling)
            report = folder / "head.json"
            manage(env, "train_head", "--json", str(report))
            version = json.loads(report.read_text())["version"]
            with load(url, token, clients) as answers:
                wait_for(answers, clients * 3)  # the worker has started
                time.sleep(seconds / 3)
                switched = _timed(env, "switch_model", version)
                time.sleep(seconds / 3 + 2)
                rolled_back = _timed(env, "rollback_model")
                time.sleep(seconds / 3 + 2)
            figures = {
                "answers": len(answers),
                "errors": sum(answer.status != 200 for answer in answers),
                "mixed": _mixed(answers),
                "by_head": sum(answer.version == version for answer in answers),
                "stale_s": max(
                    _stale(answers, switched, rolled_back[0], version, is_new=True),
                    _stale(answers, rolled_back, float("inf"), version, is_new=False),
                ),
            }
            if learning:
                figures |= _while_learning(env, url, token, clients, seconds)
            return figures


def fill(n: int) -> None:
    """Create n products whose views differ by the light, and new products that show some of them. Runs in Django."""
    from gpu.vectors import LEGACY, LEGACY_MODEL, Features
    from products.models import Feature, Product, ProductImage

    rng = np.random.default_rng(0)
    lights = rng.normal(size=(3, 256)) * 40

    def view(look: Any) -> Features:
        bins = (128 + look + rng.normal(size=3) @ lights + rng.normal(size=256) * 8).clip(0, 255).astype(np.uint8)
        texture = rng.integers(0, 256, 256).astype(np.uint8)
        return Features(LEGACY, LEGACY_MODEL, bins, rng.normal(size=7).astype(np.float32), texture)

    looks = rng.normal(size=(n, 256)) * 14
    shown = [(look, VIEWS, True) for look in looks] + [(look, 1, False) for look in looks[:NEW_PRODUCTS]]
    products = Product.objects.bulk_create(
        [Product(is_historical=historical, name=f"product {number}") for number, (_, _, historical) in enumerate(shown)]
    )
    images, features = [], []
    for product, (look, views, _) in zip(products, shown, strict=True):
        for position in range(views):
            digest = hashlib.sha256(f"{product.pk} {position}".encode()).hexdigest()
            image = ProductImage(
                product=product, file=f"pictures/{digest}.jpg", sha256=digest, width=64, height=64, position=position,
                state="ready",
            )  # fmt: skip
            images.append(image)
            features.append((image, view(look)))
    ProductImage.objects.bulk_create(images, batch_size=1000)
    Feature.objects.bulk_create(
        [Feature(product=image.product, image=image, **Feature.columns(part)) for image, part in features],
        batch_size=1000,
    )


@contextmanager
def load(url: str, token: str, clients: int) -> Iterator[list[Answer]]:
    """Let clients search until the block ends, and yield their growing list of answers."""
    answers: list[Answer] = []
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_search, args=(url, token, number, answers, stopping), daemon=True)
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)


def wait_for(answers: list[Answer], count: int) -> None:
    """Wait until there are so many answers. Raises TimeoutError after a minute."""
    deadline = time.monotonic() + 60
    while len(answers) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(answers)} searches were answered in a minute")
        time.sleep(0.05)


def _search(url: str, token: str, number: int, answers: list[Answer], stopping: threading.Event) -> None:
    """Match new products by id and images that are not stored, in turns."""
    address = urlsplit(url).netloc
    rng = np.random.default_rng(number)
    products = _new_products(address, token)
    images = [_image(seed) for seed in range(IMAGES)]
    while not stopping.is_set():
        if rng.random() < 0.5:
            product = int(rng.choice(products))
            query, path, body, kind = f"product {product}", f"/api/products/{product}/match", b'{"threshold": 0}', JSON
        else:
            seed = int(rng.integers(IMAGES))
            body, kind = multipart_form(images[seed])
            boundary = kind.rpartition("=")[2]
            body = f'--{boundary}\r\nContent-Disposition: form-data; name="threshold"\r\n\r\n0\r\n'.encode() + body
            query, path = f"image {seed}", "/api/match?wait=30"
        sent = time.monotonic()
        status, found = _call(address, token, "POST", path, body, kind)
        candidates = [(one["product_id"], one["similarity_score"]) for one in found.get("matches", [])]
        answers.append(
            Answer(query, sent, time.monotonic(), status, found.get("model_name", ""), json.dumps(candidates))
        )


def _new_products(address: str, token: str) -> list[int]:
    _, found = _call(address, token, "GET", "/api/products?is_historical=false&page_size=200")
    return sorted(one["id"] for one in found["results"])


def _call(
    address: str, token: str, method: str, path: str, body: bytes | None = None, kind: str = JSON
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, {"Authorization": f"Token {token}", "Content-Type": kind})
        response = connection.getresponse()
        found: dict[str, Any] = json.loads(response.read() or b"{}")
        return response.status, found
    except (OSError, http.client.HTTPException):
        return 0, {}
    finally:
        connection.close()


def _image(seed: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((200, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def _timed(env: dict[str, str], *command: str) -> tuple[float, float]:
    """Run a command. Return when it began and ended."""
    start = time.monotonic()
    manage(env, *command)
    return start, time.monotonic()


def _mixed(answers: list[Answer]) -> int:
    """Count the answers that differ from the usual one of their version to the same query."""
    by_query: dict[tuple[str, str], list[str]] = {}
    for answer in answers:
        if answer.status == 200:
            by_query.setdefault((answer.query, answer.version), []).append(answer.candidates)
    return sum(len(given) - max(given.count(one) for one in set(given)) for given in by_query.values())


def _stale(answers: list[Answer], switch: tuple[float, float], until: float, head: str, *, is_new: bool) -> float:
    """Return how many seconds after a switch the last search was sent that the old version answered."""
    old = [
        answer.sent - switch[1]
        for answer in answers
        if answer.status == 200 and switch[1] < answer.sent < until and (answer.version == head) != is_new
    ]
    return round(max(old, default=0.0), 3)


def _while_learning(env: dict[str, str], url: str, token: str, clients: int, seconds: float) -> dict[str, float]:
    """Return the 95th percentile of both kinds of turns, and how often a head was learned."""
    taken: dict[bool, list[float]] = {False: [], True: []}
    learned = 0
    for turn in range(2 * TURNS):
        with load(url, token, clients) as answers:
            end = time.monotonic() + seconds
            while turn % 2 and time.monotonic() < end:
                command = [sys.executable, str(REPO / "manage.py"), "train_head"]
                subprocess.run(command, env=env, cwd=REPO, check=True, capture_output=True)
                learned += 1
            time.sleep(max(0.0, end - time.monotonic()))
        taken[bool(turn % 2)] += [answer.received - answer.sent for answer in answers if answer.status == 200]
    alone, learning = (1000 * float(np.percentile(taken[key], 95)) for key in (False, True))
    return {
        "p95_ms_alone": round(alone, 1), "p95_ms_learning": round(learning, 1), "ratio": round(learning / alone, 2),
        "heads_learned": learned,
    }  # fmt: skip


if __name__ == "__main__":
    main()
