"""A table's images are found although case, Unicode form, folders or the ZIP's encoding differ."""

from __future__ import annotations

import hashlib
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest

from products.models import Product
from tests.helpers.commands import run
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import rows_as_csv, write_csv, write_images

pytestmark = pytest.mark.django_db


def zip_of(path: Path, entries: dict[bytes, bytes], extra: bytes = b"") -> Path:
    """Write a ZIP whose entries have these raw names, without the UTF-8 flag."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, content in enumerate(entries.values()):
            entry = zipfile.ZipInfo(f"{number}".rjust(len(list(entries)[number]), "#"))
            entry.extra = extra
            archive.writestr(entry, content)
    data = path.read_bytes()
    for number, name in enumerate(entries):
        data = data.replace(f"{number}".rjust(len(name), "#").encode(), name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("file", "reference"),
    [
        ("mug.jpg", "MUG.JPG"),
        ("img/mug.jpg", "IMG\\Mug.jpg"),
        ("img/mug.jpg", "mug.jpg"),
        ("mug.jpg", "pub/media/catalog/product/m/u/mug.jpg"),
        ("mug.jpg", "/m/u/mug.jpg"),
        ("mug.jpg", "C:\\Users\\me\\Pictures\\mug.jpg"),
        ("blue mug.jpg", "blue%20mug.jpg"),
        ("mug.jpg", "files/mug.jpg?v=3"),
        (unicodedata.normalize("NFD", "grün.jpg"), unicodedata.normalize("NFC", "grün.jpg")),
        (unicodedata.normalize("NFC", "grün.jpg"), unicodedata.normalize("NFD", "GRÜN.jpg")),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_file_is_found_although_it_is_written_differently(tmp_path, kind, file, reference):
    rows = [{"sku": "A", "image": reference}]
    if kind == "folder":
        write_images(tmp_path, file)
        path = write_csv(tmp_path / "c.csv", rows)
    else:
        path = tmp_path / "in.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("list.csv", rows_as_csv(rows))
            archive.writestr(file, jpeg(1))
    ran = run("import_products", path)
    assert ran.code == 0, ran.err
    assert Product.objects.get().images.count() == 1


def test_exact_path_wins_and_folders_decide_between_others(tmp_path):
    write_images(tmp_path, "a/x.jpg", "b/x.jpg", "X.jpg")
    rows = [{"sku": "A", "image": "old/A/x.JPG"}, {"sku": "B", "image": "b/x.jpg"}]
    assert run("import_products", write_csv(tmp_path / "c.csv", rows)).code == 0
    hashes = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a/x.jpg", "b/x.jpg")]
    assert [product.images.get().sha256 for product in Product.objects.order_by("sku")] == hashes


def test_name_that_fits_several_files_is_refused_with_their_paths(tmp_path):
    write_images(tmp_path, "a/x.jpg", "b/x.jpg")
    ran = run("import_products", write_csv(tmp_path / "c.csv", [{"sku": "A", "image": "x.jpg"}]))
    assert "row 2 (A): file_missing: x.jpg is none of the files exactly, and fits several: a/x.jpg, b/x.jpg" in ran.err


@pytest.mark.parametrize("encoding", ["utf-8", "cp437", "cp850", "cp1252", "mac_roman"])
def test_zip_without_the_utf8_flag_is_read_in_any_encoding(tmp_path, encoding):
    rows = rows_as_csv([{"sku": "A", "image": "bilder/grün é.jpg"}])
    entries = {"bilder/grün é.jpg".encode(encoding): jpeg(1), b"list.csv": rows.encode()}
    ran = run("import_products", zip_of(tmp_path / "in.zip", entries))
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("encoding", ["utf-8", "cp437", "cp1252"])
def test_name_from_such_a_zip_becomes_a_readable_sku(tmp_path, encoding):
    assert run("import_products", zip_of(tmp_path / "in.zip", {"Grüße.jpg".encode(encoding): jpeg(1)})).code == 0
    assert Product.objects.get().sku == "Grüße"


def test_unicode_path_field_of_a_zip_gives_the_name(tmp_path):
    raw = b"gr\xfcn.jpg"
    field = struct.pack("<BI", 1, zlib.crc32(raw)) + "grün.jpg".encode()
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    assert run("import_products", zip_of(tmp_path / "in.zip", {raw: jpeg(1)}, extra)).code == 0
    assert Product.objects.get().sku == "grün"


def test_backslashes_in_a_zip_are_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("Mugs\\A.jpg", jpeg(1))
        archive.writestr("..\\..\\out.jpg", jpeg(2))
    ran = run("import_products", tmp_path / "in.zip")
    assert "unsafe_path" in ran.err
    assert list(Product.objects.values_list("sku", "category")) == [("A", "Mugs")]


def test_one_bad_image_of_a_product_leaves_the_others(tmp_path):
    write_images(tmp_path, "a.jpg", "c.jpg")
    (tmp_path / "b.jpg").write_text("no image")
    rows = [{"sku": "A", "name": "Mug", "image": image} for image in ("a.jpg", "b.jpg", "c.jpg")]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows))
    assert "1 products added, 1 images added, 0 already there, 1 refused" in ran.out
