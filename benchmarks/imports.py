"""Measure imports of local images by ``import_products``: a plain table beside the same products from Shopify.

    python -m benchmarks.imports [--rows N] [--rounds N] [--json PATH] [--kinds plain,shopify]

Each import starts on an empty database in a temporary folder, without a worker: it stores products and images and
leaves the features to be computed. The two kinds take turns. Reported per kind: the median rows a second, the median
processor time of a row, and the largest memory of the command and its decoding processes together. The Shopify table
has one row a product, with the columns of an export and image addresses on the shop's host; the images lie beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import json
import resource
import subprocess
import tempfile
import threading
import time

import numpy as np
import psutil

from benchmarks.images import photo_as_jpeg
from benchmarks.installation import REPO, environment, manage
from benchmarks.machine import describe_machine, print_machine

IMAGE_SIZE = (320, 320)
DISTINCT_IMAGES = 200
SHOP_ADDRESS = "https://cdn.example.com/s/files/1/1/products/"
SHOPIFY_COLUMNS = [
    "Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published", "Option1 Name",
    "Option1 Value", "Variant SKU", "Variant Price", "Image Src", "Image Position", "Image Alt Text", "Variant Image",
    "Status",
]  # fmt: skip


def write_images(folder: Path, rows: int) -> None:
    """Write one JPEG for each row. They differ in their bytes, but only DISTINCT_IMAGES in their pixels."""
    distinct = [photo_as_jpeg(*IMAGE_SIZE, seed) for seed in range(min(rows, DISTINCT_IMAGES))]
    for row in range(rows):
        comment = f"image {row}".encode()
        jpeg = distinct[row % len(distinct)]
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / f"image-{row}.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])


def plain_rows(rows: int) -> list[list[str]]:
    """Return a table with the columns that the documentation shows."""
    lines = [f"SKU-{row},Product {row},Shelf {row % 40},Vendor {row % 90},image-{row}.jpg" for row in range(rows)]
    return [line.split(",") for line in ("sku,name,category,brand,image", *lines)]


def shopify_rows(rows: int) -> list[list[str]]:
    """Return the same products in the columns of Shopify's product export."""
    table = [SHOPIFY_COLUMNS]
    for row in range(rows):
        values = [f"product-{row}", f"Product {row}", "<p>A product.</p>", f"Vendor {row % 90}", f"Shelf {row % 40}"]
        values += ["Thing", "a, b", "true", "Title", "Default Title", f"SKU-{row}", f"{row % 100}.00"]
        table.append([*values, f"{SHOP_ADDRESS}image-{row}.jpg?v=17", "1", "", "", "active"])
    return table


TABLES = {"plain": plain_rows, "shopify": shopify_rows}


def memory_of(process: psutil.Process) -> int:
    """Return the bytes that the process and its children hold now. A process that has ended holds none."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def processor_seconds() -> float:
    """Return the processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_import(table: Path, folder: Path) -> tuple[float, float, int]:
    """Return the seconds, the processor seconds and the largest memory in bytes of an import.

    Raises RuntimeError if it fails.
    """
    env = environment(folder)
    manage(env, "migrate", "--verbosity", "0")
    command = [sys.executable, str(REPO / "manage.py"), "import_products", str(table)]
    start, processor_start = time.perf_counter(), processor_seconds()
    with subprocess.Popen(command, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        output: list[bytes] = []
        reader = threading.Thread(target=lambda: output.append(process.stdout.read() if process.stdout else b""))
        reader.start()
        largest = 0
        while process.poll() is None:
            try:
                largest = max(largest, memory_of(psutil.Process(process.pid)))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.5)
        process.wait()
        reader.join()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"The import failed: {b''.join(output)[-2000:].decode(errors='replace')}")
    return seconds, processor_seconds() - processor_start, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="products of each import (default: 10000)")
    parser.add_argument("--rounds", type=int, default=1, help="imports of each kind (default: 1)")
    parser.add_argument("--kinds", default="plain,shopify", help="which tables (default: plain,shopify)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print_machine()
    kinds = options.kinds.split(",")
    measured: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="catalogmatch-imports-") as name:
        images = Path(name, "images")
        images.mkdir()
        write_images(images, options.rows)
        for kind in kinds:
            with (images / f"{kind}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(TABLES[kind](options.rows))
        for turn in range(options.rounds):
            for kind in kinds:
                data = Path(name, f"{kind}-{turn}")
                data.mkdir()
                measured[kind].append(run_import(images / f"{kind}.csv", data))
    figures = {}
    for kind, results in measured.items():
        rate = float(np.median([options.rows / seconds for seconds, _, _ in results]))
        milliseconds = float(np.median([1000 * used / options.rows for _, used, _ in results]))
        megabytes = max(memory for _, _, memory in results) / 1e6
        figures[kind] = {
            "rows_per_s": round(rate, 1),
            "processor_ms_per_row": round(milliseconds, 2),
            "memory_mb": round(megabytes),
        }
        print(f"{kind:<10} {rate:8.1f} rows/s   {milliseconds:6.2f} ms of processor a row   {megabytes:6.0f} MB")
    if options.json:
        report = {"benchmark": "imports", "machine": describe_machine(), "results": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
