"""Imports follow no links: a link is a rejected row with its name, and other rows are imported."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from products.models import Product
from tests.helpers import sample_images
from tests.helpers.commands import run
from tests.helpers.tables import write_csv, write_images

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "in", "good.jpg")
    write_images(tmp_path / "elsewhere", "secret.jpg")
    return tmp_path / "in"


def make(kind: str, path: Path, target: Path) -> None:
    match kind:
        case "symbolic link":
            path.symlink_to(target)
        case "hard link":
            os.link(target, path)
        case "device, pipe or socket":
            os.mkfifo(path)


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "device, pipe or socket"])
def test_link_or_special_file_is_a_rejected_row_with_its_name(folder: Path, kind: str) -> None:
    make(kind, folder / "bad.jpg", folder.parent / "elsewhere" / "secret.jpg")
    ran = run("import_products", folder)
    assert ran.code == 3
    assert f"row 1 (bad): unsafe_path: bad.jpg is a {kind}" in ran.err
    assert list(Product.objects.values_list("sku", flat=True)) == ["good"]


def test_link_to_a_folder_is_reported_and_not_followed(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent / "elsewhere")
    ran = run("import_products", folder)
    assert ran.code == 3
    assert "(more): unsafe_path: more is a symbolic link" in ran.err
    assert list(Product.objects.values_list("sku", flat=True)) == ["good"]


def test_socket_is_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("bad.jpg")
        ran = run("import_products", folder)
    assert "(bad): unsafe_path" in ran.err


@pytest.mark.parametrize("image", ["bad.jpg", "sub/good.jpg", "./sub/../bad.jpg", "{elsewhere}/link.jpg"])
def test_table_cannot_name_an_image_behind_a_link(folder: Path, image: str) -> None:
    elsewhere = folder.parent / "elsewhere"
    (folder / "bad.jpg").symlink_to(elsewhere / "secret.jpg")
    (folder / "sub").symlink_to(elsewhere)
    (elsewhere / "good.jpg").write_bytes(sample_images.jpeg(7))
    (elsewhere / "link.jpg").symlink_to(elsewhere / "good.jpg")
    table = write_csv(folder / "c.csv", [{"sku": "A", "image": image.format(elsewhere=elsewhere)}])
    ran = run("import_products", table)
    assert "row 2 (A): unsafe_path" in ran.err
    assert not Product.objects.exists()


def test_links_are_rejected_in_a_folder_given_by_a_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").symlink_to(folder.parent / "elsewhere")
    write_csv(folder / "c.csv", [{"sku": "A", "image": "sub/secret.jpg"}])
    monkeypatch.chdir(folder)
    assert "unsafe_path" in run("import_products", ".").err
    assert "unsafe_path" in run("import_products", "c.csv").err


def test_table_that_is_a_link_is_not_read(folder: Path) -> None:
    table = write_csv(folder.parent / "elsewhere" / "c.csv", [{"sku": "A", "image": "good.jpg"}])
    (folder / "c.csv").symlink_to(table)
    ran = run("import_products", folder)
    assert ran.code == 1
    assert "c.csv is a symbolic link" in ran.err


def test_folder_and_absolute_paths_may_be_given_through_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "tables").mkdir()
    assert run("import_products", tmp_path / "link").code == 0
    rows = [{"sku": "A", "image": str(tmp_path / "link" / "good.jpg")}, {"sku": "B", "image": "../link/good.jpg"}]
    table = write_csv(tmp_path / "tables" / "c.csv", rows)
    assert run("import_products", table).code == 0
    assert Product.objects.count() == 3


def test_hard_links_within_the_folder_are_accepted(folder: Path) -> None:
    os.link(folder / "good.jpg", folder / "same.jpg")
    assert run("import_products", folder).code == 0
