"""Random tables and archives: text is read unchanged, and damaged files are rejected without a crash."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import UnreadableFileError
from core.spreadsheets.reader import open_table
from gpu.imaging.errors import ImageProcessingError
from products.importing.errors import RowError
from products.importing.image_sources import open_zip
from products.importing.importer import import_rows
from products.importing.rows import open_source
from tests.helpers.tables import rows_as_csv, write_xlsx

# No surrogates and control characters: UTF-8 and XML cannot contain them. Workbooks store numbers as numbers.
cell = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30).map(str.strip)
rows = st.lists(st.fixed_dictionaries({"sku": cell, "Größe; cm": cell, "image": cell}), max_size=8).map(
    lambda rows: [row for row in rows if any(row.values())]
)
quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path) -> list[dict[str, str]]:
    with open_table(path, ["image"]) as table:
        return [row.cells for row in table.rows]


@quickly
@given(rows=rows, delimiter=st.sampled_from(",;\t"), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_any_text_survives_a_csv_file(tmp_path, rows, delimiter, encoding):
    header = rows or [{"sku": "", "Größe; cm": "", "image": ""}]
    path = tmp_path / "c.csv"
    path.write_bytes(rows_as_csv(header, delimiter).encode(encoding))
    assert read(path) == rows


@quickly
@given(rows=rows.filter(bool))
def test_any_text_survives_a_workbook(tmp_path, rows):
    # A leading "=" would be a formula, whose result only a spreadsheet program computes.
    plain = [{column: text.lstrip("=").strip() for column, text in row.items()} for row in rows]
    expected = [row for row in plain if any(row.values())]
    assert read(write_xlsx(tmp_path / "c.xlsx", plain)) == expected


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("list.csv", "sku,image\nA,a.jpg\n")
        archive.writestr("a.jpg", bytes(2000))
    return buffer.getvalue()


def a_workbook() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_xlsx(Path(folder) / "c.xlsx", [{"sku": "A", "image": "a.jpg"}]).read_bytes()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "valid"), [("c.csv", b"sku,image\nA,a.jpg\n"), ("c.xlsx", a_workbook()), ("c.zip", a_zip())]
)
@quickly
@given(data=st.data())
def test_damaged_file_is_rejected_as_a_whole_or_by_row(tmp_path, name, valid, data):
    start = data.draw(st.integers(0, len(valid)))
    end = data.draw(st.integers(start, min(len(valid), start + 40)))
    path = tmp_path / name
    path.write_bytes(valid[:start] + data.draw(st.binary(max_size=40)) + valid[end:])
    with contextlib.suppress(UnreadableFileError), open_source(path) as source:
        for result in import_rows(source):
            assert result.code


# Parts of names that try to reach other folders.
piece = st.sampled_from(["..", ".", "", "a", "b.jpg", "C:", "\\", "etc", "passwd", "~", "%2e%2e", "\x00", "ü"]) | cell
path_name = st.tuples(st.sampled_from(["", "/", "//", "\\"]), st.lists(piece, min_size=1, max_size=5)).map(
    lambda parts: parts[0] + "/".join(parts[1])
)
entry_name = path_name.filter(lambda name: name.partition("\x00")[0])  # zipfile cuts names at the first null character


@quickly
@given(names=st.lists(entry_name, max_size=4, unique=True), requested=path_name, folder=path_name)
def test_zip_entry_name_cannot_reach_outside_the_zip(tmp_path, names, requested, folder):
    path = tmp_path / "c.zip"
    (tmp_path / "b.jpg").write_bytes(b"outside")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns about names that are equal after this cut
        with zipfile.ZipFile(path, "w") as archive:
            for number, name in enumerate(names):
                archive.writestr(name, f"entry {number}")
    with open_zip(path) as place, contextlib.suppress(RowError, ImageProcessingError):
        assert place.read(requested, folder).startswith(b"entry ")
