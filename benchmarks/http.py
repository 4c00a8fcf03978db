"""Measure POST /api/products/{id}/match through HTTP on a full catalogue.

    python -m benchmarks.http [--n 100000] [--seconds 10] [--evidence] [--json PATH] [--folder FOLDER]

Starts the real web server (gunicorn, two processes) on SQLite. 1, 4 and 16 clients match random products, each as soon
as it has the last response. Results are saved. benchmarks/vectors.py describes the vectors. With ``--evidence`` one
client is measured first on products without texts, and then with names, numbers, attributes and a calibration.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import http.client
import json
import os
import tempfile
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.installation import environment, manage, web_server
from benchmarks.machine import print_machine
from benchmarks.search import prepare, run_phase

CLIENTS = (1, 4, 16)
# All texts away, and back.
_HIDE = """
from products.models import Product
Product.objects.update(name="", description="", attributes={}, sku="")
"""
_SHOW = """
import numpy as np
from benchmarks.catalogue import _products, zipf_categories
from benchmarks.vectors import MODEL
from matching.answers import records, stored
from matching.answers.choice import TERMS
from matching.models import Calibration
from products.models import Product
count = Product.objects.count()
rows = [Product(**row, mpn=f"XR-{row['id']:07}") for row in _products(zipf_categories(count), 0)]
fields = ["name", "description", "attributes", "sku", "mpn"]
for start in range(0, count, 5000):
    Product.objects.bulk_update(rows[start : start + 5000], fields, batch_size=100)
Calibration.objects.create(
    model_name=MODEL, statistics=stored.pack(records.count_catalogue()), report={}, adopted=True,
    parameters={"weights": dict.fromkeys(TERMS, 1.0), "none": 3.0, "same_from": None, "new_from": None},
)
"""

COLUMNS = ("clients", "requests_per_s", "p50_ms", "p99_ms", "errors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="products (default: 100,000)")
    parser.add_argument("--seconds", type=float, default=10, help="for each number of clients (default: 10)")
    parser.add_argument("--evidence", action="store_true", help="measure what texts and a calibration cost")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--folder", type=Path, help="where to put the catalogue (default: a temporary folder)")
    options = parser.parse_args()
    print_machine()
    print("load average:", os.getloadavg()[0])
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="http-") as name:
        folder = Path(name)
        prepare(folder, options.n)
        built = run_phase("build", "catalogmatch", folder)
        if "not_run" in built:
            raise RuntimeError(f"The catalogue could not be built: {built['not_run']}")
        env = environment(folder / "data")
        print(" ".join(f"{column:>15}" for column in COLUMNS))
        for script in (_HIDE, _SHOW) if options.evidence else (None,):
            if script is not None:
                manage(env, "shell", "-v0", "-c", script)
            with web_server(env, workers=2) as (url, token):
                run_clients(url, token, options.n, clients=4, seconds=3)  # lets both processes map the index
                for clients in CLIENTS[:1] if options.evidence else CLIENTS:
                    row = run_clients(url, token, options.n, clients, options.seconds)
                    rows.append(row)
                    print(" ".join(f"{row[column]:>15.1f}" for column in COLUMNS), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def run_clients(url: str, token: str, n: int, clients: int, seconds: float) -> dict[str, Any]:
    """Return the figures of so many concurrent clients. Any response but a 200 with ten matches is an error."""
    latencies: list[float] = []
    errors: list[str] = []
    until = time.perf_counter() + seconds

    def client(seed: int) -> None:
        rng = np.random.default_rng(seed)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
        body = json.dumps({"threshold": 0})
        while (start := time.perf_counter()) < until:
            try:
                connection.request("POST", f"/api/products/{rng.integers(1, n + 1)}/match", body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            latencies.append(time.perf_counter() - start)
            if response.status != 200 or len(json.loads(content)["matches"]) != 10:
                errors.append(f"{response.status} {content[:200]!r}")

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in sorted(set(errors))[:3]:
        print("error:", error)
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    rate = len(latencies) / (time.perf_counter() - start)
    return {"clients": clients, "requests_per_s": rate, "p50_ms": p50, "p99_ms": p99, "errors": len(errors)}


if __name__ == "__main__":
    main()
