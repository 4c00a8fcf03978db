"""Imports from folders and ZIPs. No ZIP can reach files outside or exhaust the machine."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from products.models import Product, ProductImage
from tests.helpers.commands import run
from tests.helpers.files import files_in
from tests.helpers.sample_images import as_file, jpeg, noise
from tests.helpers.tables import rows_as_csv, write_csv, write_images

pytestmark = pytest.mark.django_db


def write_zip(path: Path, files: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def skus() -> set[str]:
    return set(Product.objects.values_list("sku", flat=True))


def test_image_in_a_folder_becomes_a_product_named_by_file_and_folder(tmp_path):
    write_images(tmp_path / "in", "Mugs/blue mug.jpg", "lamp.png", "more/Toys/bear.jpg")
    assert run("import_products", tmp_path / "in", "--historical").code == 0
    assert set(Product.objects.values_list("sku", "name", "category", "is_historical")) == {
        ("blue mug", "blue mug", "Mugs", True),
        ("lamp", "lamp", "", True),
        ("bear", "bear", "Toys", True),
    }


def test_system_files_are_ignored_and_other_files_reported(tmp_path):
    write_images(tmp_path / "in", "a.jpg")
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/._a.jpg", ".git/a.jpg", "notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("not an image")
    ran = run("import_products", tmp_path / "in")
    assert ran.code == 3
    assert [line for line in ran.err.splitlines() if line.startswith("row")] == [
        line for line in ran.err.splitlines() if "(notes): not_an_image" in line
    ]
    assert skus() == {"a"}


def test_files_of_the_same_name_are_one_product_only_within_a_folder(tmp_path):
    write_images(tmp_path / "in", "Mugs/001.jpg", "Mugs/001.png", "Toys/001.jpg")
    ran = run("import_products", tmp_path / "in")
    assert ran.code == 3
    assert "row 3 (001): sku_exists" in ran.err
    product = Product.objects.get()
    assert product.category == "Mugs"
    assert product.images.count() == 2


def test_empty_folder_imports_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    assert run("import_products", tmp_path / "in").code == 1


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_table_in_the_folder_names_its_images(tmp_path, kind):
    write_images(tmp_path / "in", "goods/pictures/a.jpg", "goods/b.jpg")
    rows = [
        {"sku": "A", "name": "Apple", "image": "pictures/a.jpg"},
        {"sku": "B", "name": "Bear", "image": "./b.jpg"},
        {"sku": "C", "name": "Cup", "image": "c.jpg"},
    ]
    write_csv(tmp_path / "in" / "goods" / "list.csv", rows)
    path = tmp_path / "in"
    if kind == "zip":
        contents = {name: (path / name).read_bytes() for name in files_in(path)}
        path = write_zip(tmp_path / "in.zip", contents)
    ran = run("import_products", path)
    assert ran.code == 3
    assert "row 4 (C): file_missing" in ran.err
    assert set(Product.objects.values_list("sku", "name")) == {("A", "Apple"), ("B", "Bear")}


def test_zip_of_images_is_read_like_a_folder(tmp_path):
    files = {
        "Mugs/blue.jpg": jpeg(1),
        "Toys/bear.jpg": jpeg(2),
        "__MACOSX/Toys/._bear.jpg": b"x",
    }
    assert run("import_products", write_zip(tmp_path / "in.zip", files)).code == 0
    assert set(Product.objects.values_list("sku", "category")) == {("blue", "Mugs"), ("bear", "Toys")}


def test_several_tables_in_a_folder_are_rejected(tmp_path):
    path = write_zip(tmp_path / "in.zip", {"a.csv": "image\n", "b.csv": "image\n"})
    ran = run("import_products", path)
    assert ran.code == 1
    assert "several tables (a.csv, b.csv)" in ran.err


def test_image_folder_option_needs_a_table(tmp_path):
    write_images(tmp_path / "in", "a.jpg")
    assert run("import_products", tmp_path / "in", "--images", tmp_path).code == 1
    assert not Product.objects.exists()


def test_zip_entry_cannot_reach_outside_the_zip(tmp_path, media):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(9))
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "inner" / "in.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.jpg", jpeg(1))
        archive.writestr("../up.jpg", jpeg(2))
        archive.writestr("/root.jpg", jpeg(3))
        archive.writestr("c:/drive.jpg", jpeg(4))
        archive.writestr(link, "../secret.jpg")
    before = files_in(tmp_path)
    ran = run("import_products", path)
    assert ran.code == 3
    assert ran.err.count("unsafe_path") == 4
    assert skus() == {"good"}
    assert [name for name in files_in(tmp_path) if not name.startswith(media.name)] == before


@pytest.mark.parametrize("image", ["../secret.jpg", "a/../../secret.jpg", "{folder}/secret.jpg", "..\\secret.jpg"])
def test_row_of_a_table_in_a_zip_cannot_reach_outside_the_zip(tmp_path, image):
    (tmp_path / "secret.jpg").write_bytes(jpeg(9))
    rows = [{"sku": "A", "image": image.format(folder=tmp_path)}, {"sku": "B", "image": "good.jpg"}]
    files: dict[str, bytes | str] = {"list.csv": rows_as_csv(rows), "good.jpg": jpeg(1)}
    ran = run("import_products", write_zip(tmp_path / "in.zip", files))
    assert ran.code == 3
    assert "row 2 (A): unsafe_path" in ran.err
    assert skus() == {"B"}


def test_only_the_unreadable_zip_entry_is_rejected(tmp_path):
    good, bad = jpeg(1), as_file(noise(2), "BMP")
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.bmp", bad)
        archive.writestr("good.jpg", good)
    content = path.read_bytes()
    at = content.index(bad) + len(bad) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    ran = run("import_products", path)
    assert ran.code == 3
    assert "(bad): file_unreadable" in ran.err
    assert skus() == {"good"}


def test_image_size_in_a_zip_is_checked_before_it_is_unpacked(tmp_path):
    files = {"large.bmp": b"BM" + bytes(21 * 2**20), "good.jpg": jpeg(1)}
    ran = run("import_products", write_zip(tmp_path / "in.zip", files))
    assert ran.code == 3
    assert "(large): image_too_large" in ran.err
    assert skus() == {"good"}


def test_jpeg_in_a_zip_may_be_as_large_as_an_uploaded_one(tmp_path):
    photo = jpeg(1)
    comments = (b"\xff\xfe\xff\xff" + bytes(65_533)) * 340  # 21 MiB before the pixels, as some cameras write
    ran = run("import_products", write_zip(tmp_path / "in.zip", {"camera.jpg": photo[:2] + comments + photo[2:]}))
    assert ran.code == 0
    assert skus() == {"camera"}


def test_zip_bomb_is_rejected(tmp_path):
    files = {f"{number}.bmp": bytes(16 * 2**20) for number in range(5)}
    ran = run("import_products", write_zip(tmp_path / "bomb.zip", files))
    assert ran.code == 1
    assert "100 times its size" in ran.err


def test_workbook_that_is_a_zip_bomb_is_rejected(tmp_path):
    path = write_zip(tmp_path / "bomb.xlsx", {"xl/worksheets/sheet1.xml": bytes(80 * 2**20)})
    ran = run("import_products", path)
    assert ran.code == 1
    assert "100 times its size" in ran.err


def test_zip_of_too_many_entries_is_rejected(tmp_path):
    ran = run("import_products", write_zip(tmp_path / "many.zip", {f"{number}.jpg": "" for number in range(10_001)}))
    assert ran.code == 1
    assert "10,001 entries" in ran.err


def test_zip_whose_entries_overlap_is_rejected(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", jpeg(1))
        archive.writestr("b.jpg", jpeg(2))
        archive.getinfo("b.jpg").header_offset = archive.getinfo("a.jpg").header_offset
    ran = run("import_products", path)
    assert ran.code == 1
    assert "overlap" in ran.err
    assert not Product.objects.exists()


def test_zip_in_a_zip_is_rejected(tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {"a.jpg": jpeg(1)}).read_bytes()
    ran = run("import_products", write_zip(tmp_path / "in.zip", {"inner.zip": inner, "good.jpg": jpeg(2)}))
    assert ran.code == 3
    assert "(inner): not_an_image" in ran.err
    assert skus() == {"good"}


def test_damaged_zip_is_rejected(tmp_path):
    path = write_zip(tmp_path / "in.zip", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    path.write_bytes(path.read_bytes()[:-40])
    assert run("import_products", path).code == 1
    assert not ProductImage.objects.exists()
