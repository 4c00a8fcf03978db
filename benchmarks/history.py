"""Measure what the history costs an import.

    python -m benchmarks.history [--rows 10000] [--json PATH]

Imports a table of new products with an image each into a new SQLite database, then a table that changes every name.
Every second block of 250 rows is imported without history. The result is milliseconds a row, as medians of the blocks,
so that a growing database or a busy machine does not count as history. Embedding is not included.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any
from unittest import mock

from benchmarks.images import photo
from benchmarks.installation import environment, manage
from benchmarks.machine import describe_machine, print_machine

BLOCK_ROWS = 250
SIZE = (400, 300)
DISTINCT_IMAGES = 40  # the others are copies, each with a comment of its own that makes it another file


def write_tables(folder: Path, rows: int) -> tuple[Path, Path]:
    """Write a table of new products with images and one with new names for them. Return both paths."""
    images = [photo(*SIZE, seed) for seed in range(DISTINCT_IMAGES)]
    for number in range(rows):
        buffer = io.BytesIO()
        images[number % DISTINCT_IMAGES].save(buffer, "JPEG", quality=85, comment=str(number).encode())
        (folder / f"{number}.jpg").write_bytes(buffer.getvalue())
    tables = folder / "new.csv", folder / "names.csv"
    for table, name, image in zip(tables, ("Mug", "Cup"), ("{}.jpg", ""), strict=True):
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "name", "category", "colour", "image"])
            for number in range(rows):
                writer.writerow([f"S-{number}", f"{name} {number}", "Mugs", "blue", image.format(number)])
    return tables


@contextmanager
def without_history() -> Iterator[None]:
    """Write no entries, and skip the comparison with the newest entry."""
    from django.test import override_settings

    from core.history.recording import AuditTrail

    with override_settings(SIMPLE_HISTORY_ENABLED=False), mock.patch.object(AuditTrail, "_differs", return_value=False):
        yield


def import_table(table: Path) -> dict[str, list[float]]:
    """Return milliseconds a row of each block, ``with`` and ``without`` history.

    Raises RuntimeError if a row is rejected.
    """
    from products.importing.importer import RowStatus, import_rows
    from products.importing.rows import open_source

    milliseconds: dict[str, list[float]] = {"with": [], "without": []}
    with open_source(table) as source:
        results = import_rows(source, update=True)
        for number in range((source.total or 0) // BLOCK_ROWS):
            start = time.perf_counter()
            if number % 2:
                with without_history():
                    block = list(islice(results, BLOCK_ROWS))
            else:
                block = list(islice(results, BLOCK_ROWS))
            elapsed = time.perf_counter() - start
            milliseconds["without" if number % 2 else "with"].append(1000 * elapsed / BLOCK_ROWS)
            if rejected := [row for row in block if row.status not in (RowStatus.CREATED, RowStatus.UPDATED)]:
                raise RuntimeError(f"{len(rejected)} rows were not imported: {rejected[0]}")
    return milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="rows of each table (default: 10,000)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print_machine()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="history-") as temporary:
        folder = Path(temporary)
        env = environment(folder / "data")
        os.environ |= {**env, "DJANGO_SETTINGS_MODULE": "catalogmatch.settings"}
        manage(env, "migrate", "--verbosity", "0")
        (folder / "tables").mkdir()
        tables = write_tables(folder / "tables", options.rows)
        import django

        django.setup()
        for name, table in zip(("new products with an image", "changed names"), tables, strict=True):
            milliseconds = import_table(table)
            recorded, plain = statistics.median(milliseconds["with"]), statistics.median(milliseconds["without"])
            ratio = recorded / plain
            figures[name] = {"ms": round(recorded, 2), "ms_without": round(plain, 2), "ratio": round(ratio, 2)}
            print(f"{name:<28} {recorded:6.2f} ms a row, without history {plain:6.2f} ms   {ratio:.2f} times")
        figures["bytes_of_an_entry"] = round(entry_bytes())
        print(f"{figures['bytes_of_an_entry']} bytes an entry with its indexes")
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "rows": options.rows, **figures}, indent=1))


def entry_bytes() -> float:
    """Delete all entries of products and images, and return the bytes that one took on average."""
    from django.db import connection

    from products.models import Product, ProductImage

    def page_count() -> int:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA page_count")
        return int(cursor.fetchone()[0])

    entries = Product.history.count() + ProductImage.history.count()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_size")
        [size] = cursor.fetchone()
        before = page_count()
        for model in (Product, ProductImage):
            cursor.execute(f"DELETE FROM {model.history.model._meta.db_table}")
        return float(size * (before - page_count()) / entries)


if __name__ == "__main__":
    main()
