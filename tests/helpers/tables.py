"""Write CSV files, workbooks and images for imports."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from openpyxl import Workbook

from tests.helpers.sample_images import jpeg


def rows_as_csv(rows: Iterable[Mapping[str, str]], delimiter: str = ",") -> str:
    """Return a CSV whose header has the keys of all rows, in order of appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, rows: Iterable[Mapping[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    path.write_bytes(rows_as_csv(rows, delimiter).encode(encoding))
    return path


def write_xlsx(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(columns)
    for row in rows:
        sheet.append([row.get(column) for column in columns])
    book.save(path)
    return path


def write_images(folder: Path, *names: str) -> None:
    """Write a different small image for each of these names."""
    for seed, name in enumerate(names, start=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed))
