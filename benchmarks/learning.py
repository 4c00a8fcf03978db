"""Measure how long a head takes to learn from a large catalogue, and how much memory.

    python -m benchmarks.learning [--products 100000] [--images 3] [--dim 512]

Fills a new SQLite catalogue with synthetic vectors of an encoder and legacy features: each product is a direction, and
its images lie around it. Then it runs ``train_head`` as it is. Filling is not measured. On a busy machine the
processor time says more than the time on the clock. The head uses one core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "clip-ViT-B-32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=3, help="images of each product")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where to put several GB (default: the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="learning-") as folder:
        os.environ |= {
            "CATALOGMATCH_DATA_DIR": folder, "DJANGO_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
            "CELERY_BROKER_URL": "",
        }  # fmt: skip
        import django

        django.setup()
        _fill(options.products, options.images, options.dim)
        _measure(options)


def _fill(products: int, images: int, dim: int) -> None:
    from django.core.management import call_command

    from benchmarks.catalogue import bulk_insert
    from products.models import Feature, Product, ProductImage

    call_command("migrate", verbosity=0)
    bulk_insert(Product, ({"id": n, "sku": f"S-{n}", "is_historical": True} for n in range(1, products + 1)))
    bulk_insert(
        ProductImage,
        (
            {"id": n + 1, "product_id": n // images + 1, "file": f"{n}.jpg", "sha256": f"{n:064}", "width": 9,
             "height": 9, "state": "ready", "embedded_with": MODEL}
            for n in range(products * images)
        ),
    )  # fmt: skip
    bulk_insert(Feature, _features(products, images, dim))


def _features(products: int, images: int, dim: int) -> Iterator[dict[str, Any]]:
    from gpu.vectors import LEGACY, LEGACY_MODEL, Features
    from products.models import Feature

    rng = np.random.default_rng(0)
    for product in range(products):
        centre, colours = rng.normal(size=dim), rng.integers(0, 200, 256)
        for image in range(product * images, (product + 1) * images):
            embedding = Features.from_embedding((centre + 0.8 * rng.normal(size=dim)).astype(np.float32), MODEL)
            color = (colours + rng.integers(0, 56, 256)).astype(np.uint8)
            texture = rng.integers(0, 256, 256, dtype=np.uint8)
            legacy = Features(LEGACY, LEGACY_MODEL, color, rng.random(7, np.float32), texture)
            for place, features in enumerate((embedding, legacy)):
                ids = {"id": 2 * image + place + 1, "product_id": product + 1, "image_id": image + 1}
                yield ids | Feature.columns(features)


def _measure(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    # Learning alone: the search vectors of all images are stored afterwards, in the same command.
    code = "import django; django.setup(); from matching.learning.training import train; print(train().report(False))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    watch = _Watch(process.pid)
    watch.start()
    output, _errors = process.communicate()
    print(output.strip().splitlines()[-1][:300])
    print(
        f"{options.products:,} products × {options.images} images, {options.dim} dimensions and legacy features: "
        f"{time.perf_counter() - start:.0f} s, {watch.cpu_seconds:.0f} s of processor time, "
        f"{watch.peak_mb:,.0f} MB at most, exit code {process.returncode}"
    )


class _Watch(threading.Thread):
    """Reads the processor time and the peak memory of a process until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._folder = Path(f"/proc/{pid}")
        self.cpu_seconds, self.peak_mb = 0.0, 0.0

    def run(self) -> None:
        while True:
            try:
                times = (self._folder / "stat").read_text().rpartition(")")[2].split()
                peak = (self._folder / "status").read_text().partition("VmHWM:")[2].split()
            except OSError:
                return
            if not peak:
                return
            self.cpu_seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
            self.peak_mb = int(peak[0]) / 1e3
            time.sleep(0.5)


if __name__ == "__main__":
    main()
