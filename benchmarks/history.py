"""What the history costs an import: rows with it and without it, in turn, in one run.

    python -m benchmarks.history [--rows 10000] [--json PATH]

Imports a table of new products with a picture each, and then a table that changes every product's name, into a new
SQLite database, in blocks of 250 rows: every second block without history. Milliseconds a row, as medians of the
blocks, so that neither a growing database nor a busy machine is taken for the history. Embedding is not part of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Instead of this file's folder, whose http.py would hide Python's own.
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

BLOCK = 250
SIZE = (400, 300)
DRAWN = 40  # pictures; the others are copies with a comment of their own, which makes them other files


def write_tables(folder: Path, rows: int) -> tuple[Path, Path]:
    """Tables of new products with their pictures, and of new names for them."""
    drawn = [photo(*SIZE, seed) for seed in range(DRAWN)]
    for number in range(rows):
        buffer = io.BytesIO()
        drawn[number % DRAWN].save(buffer, "JPEG", quality=85, comment=str(number).encode())
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
    """Saves write no entries, and do not look what the newest one says."""
    from django.test import override_settings

    from core.history.recording import AuditTrail

    with override_settings(SIMPLE_HISTORY_ENABLED=False), mock.patch.object(AuditTrail, "_differs", return_value=False):
        yield


def imported(table: Path) -> dict[str, list[float]]:
    """Milliseconds a row of each block of the table, ``with`` and ``without`` history. Raises RuntimeError."""
    from products.importing.importer import RowStatus, import_rows
    from products.importing.rows import open_source

    taken: dict[str, list[float]] = {"with": [], "without": []}
    with open_source(table) as source:
        results = import_rows(source, update=True)
        for number in range((source.total or 0) // BLOCK):
            start = time.perf_counter()
            if number % 2:
                with without_history():
                    block = list(islice(results, BLOCK))
            else:
                block = list(islice(results, BLOCK))
            taken["without" if number % 2 else "with"].append(1000 * (time.perf_counter() - start) / BLOCK)
            if refused := [one for one in block if one.did not in (RowStatus.CREATED, RowStatus.UPDATED)]:
                raise RuntimeError(f"{len(refused)} rows were not imported: {refused[0]}")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    print_machine()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="history-") as name:
        folder = Path(name)
        env = environment(folder / "data")
        os.environ |= {**env, "DJANGO_SETTINGS_MODULE": "catalogmatch.settings"}
        manage(env, "migrate", "--verbosity", "0")
        (folder / "tables").mkdir()
        tables = write_tables(folder / "tables", options.rows)
        import django

        django.setup()
        for what, table in zip(("new products with a picture", "changed names"), tables, strict=True):
            taken = imported(table)
            kept, plain = statistics.median(taken["with"]), statistics.median(taken["without"])
            figures[what] = {"ms": round(kept, 2), "ms_without": round(plain, 2), "ratio": round(kept / plain, 2)}
            print(f"{what:<28} {kept:6.2f} ms a row, without history {plain:6.2f} ms   {kept / plain:.2f} times")
        figures["bytes_of_an_entry"] = round(entry_bytes())
        print(f"{figures['bytes_of_an_entry']} bytes an entry with its indexes")
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "rows": options.rows, **figures}, indent=1))


def entry_bytes() -> float:
    """Bytes that an entry of a product or a picture takes in the database, on average; deletes them."""
    from django.db import connection

    from products.models import Product, ProductImage

    def pages() -> int:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA page_count")
        return int(cursor.fetchone()[0])

    entries = Product.history.count() + ProductImage.history.count()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_size")
        [size] = cursor.fetchone()
        before = pages()
        for model in (Product, ProductImage):
            cursor.execute(f"DELETE FROM {model.history.model._meta.db_table}")
        return float(size * (before - pages()) / entries)


if __name__ == "__main__":
    main()
