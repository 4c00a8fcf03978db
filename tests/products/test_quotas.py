"""Quotas and the disk's reserve: a refusal says why, leaves nothing behind, and ends when there is room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from core import disk
from products import quotas
from products.models import Import, Product, ProductImage
from tests.helpers.accounts import client_of
from tests.helpers.commands import run
from tests.helpers.files import files_in
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_images
from tests.helpers.web.import_page import IMPORT, ImportPage, zipped

pytestmark = pytest.mark.django_db(transaction=True)

PRODUCTS = "/admin/products/product/"
SetQuota = Callable[[str, int], None]


@pytest.fixture
def set_quota(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> SetQuota:
    """Return a function that sets the quota of a part. Nothing is measured before the test."""
    monkeypatch.setattr(quotas, "_measurements", {})

    def set_to(part: str, size: int) -> None:
        settings.QUOTA_BYTES = settings.QUOTA_BYTES | {part: size}

    return set_to


@pytest.fixture
def nearly_full_disk(settings: Settings, tmp_path: Path) -> None:
    """Reserve more space than is free."""
    settings.DISK_RESERVE_BYTES = shutil.disk_usage(tmp_path).total


def file_of(seed: int) -> SimpleUploadedFile:
    return SimpleUploadedFile(f"{seed}.jpg", jpeg(seed))


def send(seed: int) -> Any:
    return client_of("uploader").post("/api/products/upload", {"image": file_of(seed)}, format="multipart")


def size_of_files(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in files_in(folder))


def assert_refused(response: Any, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (507, code)
    assert "is stored until" in response.json()["detail"]


# --- The reserve -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nearly_full_disk")
def test_uploads_are_refused_before_the_disk_is_full(media: Path) -> None:
    assert_refused(send(1), "disk_full")
    assert (Product.objects.count(), files_in(media)) == (0, [])


@pytest.mark.usefixtures("nearly_full_disk")
def test_further_images_and_changes_are_refused_and_deletions_are_not() -> None:
    product = make_product(name="Mug")
    api = client_of("uploader")
    added = api.post(f"/api/products/{product.pk}/images", {"image": file_of(1)}, format="multipart")
    assert_refused(added, "disk_full")
    if connection.vendor == "sqlite":  # the disk of a PostgreSQL server is out of reach
        assert_refused(api.patch(f"/api/products/{product.pk}", {"name": "Cup"}), "disk_full")
    product.refresh_from_db()
    assert (product.name, product.images.count()) == ("Mug", 1)
    assert api.get(f"/api/products/{product.pk}").status_code == 200
    assert api.delete(f"/api/products/{product.pk}").status_code == 204


@pytest.mark.usefixtures("nearly_full_disk")
def test_search_by_a_small_image_needs_no_room() -> None:
    response = client_of("viewer").post("/api/match", {"image": file_of(1)}, format="multipart")
    assert response.status_code == 200


@pytest.mark.parametrize("address", ["/api/match", "/api/products/upload"])
def test_large_file_is_refused_before_it_fills_the_folder_for_temporary_files(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _folder: settings.DISK_RESERVE_BYTES + 3 * 2**20)
    large = SimpleUploadedFile("large.jpg", os.urandom(4 * 2**20))
    response = client_of("uploader").post(address, {"image": large}, format="multipart")
    assert (response.status_code, response.json()["code"]) == (507, "disk_full")


@pytest.mark.usefixtures("nearly_full_disk")
def test_admin_pages_keep_the_form_and_say_that_the_disk_is_full(media: Path) -> None:
    browser = browser_of("manager")
    response = browser.post(f"{PRODUCTS}add/", {"images": file_of(1), "name": "Mug"})
    assert (response.status_code, b"The disk is nearly full" in response.content) == (507, True)
    assert b'value="Mug"' in response.content
    product = make_product()
    response = browser.post(f"{PRODUCTS}{product.pk}/views/", {"images": file_of(1)}, follow=True)
    assert b"The disk is nearly full" in response.content
    assert (Product.objects.count(), files_in(media)) == (1, [])


@pytest.mark.usefixtures("nearly_full_disk")
def test_import_page_stores_nothing_on_a_nearly_full_disk(imports_root: Path) -> None:
    table = SimpleUploadedFile("a.csv", b"sku,name\nA,a\n")
    response = browser_of("uploader").post(IMPORT, {"files": [table]})
    assert (response.status_code, b"The disk is nearly full" in response.content) == (507, True)
    assert (Import.objects.count(), files_in(imports_root)) == (0, [])


def test_confirmed_import_stops_with_the_reason_when_the_disk_fills(settings: Settings, tmp_path: Path) -> None:
    files = {"a.zip": zipped({"1.jpg": jpeg(1)})}
    sent = ImportPage(browser_of("uploader"), files)
    settings.DISK_RESERVE_BYTES = shutil.disk_usage(tmp_path).total
    sent.confirm()
    [job] = Import.objects.all()
    assert (job.state, "The disk is nearly full" in job.error) == ("failed", True)
    assert "Send the files again" in sent.browser.get(sent.page).content.decode()
    settings.DISK_RESERVE_BYTES = 0
    ImportPage(sent.browser, files).confirm()
    assert Product.objects.count() == 1


def test_import_command_stops_with_the_reason_and_continues(settings: Settings, tmp_path: Path, media: Path) -> None:
    write_images(tmp_path / "in", "a.jpg", "b.jpg")
    reserve, settings.DISK_RESERVE_BYTES = settings.DISK_RESERVE_BYTES, shutil.disk_usage(tmp_path).total
    result = run("import_products", tmp_path / "in")
    assert (result.code, "The disk is nearly full" in result.err) == (1, True)
    assert "Run the same command again to continue." in result.err
    assert (Product.objects.count(), files_in(media)) == (0, [])
    settings.DISK_RESERVE_BYTES = reserve
    assert run("import_products", tmp_path / "in").code == 0


# --- Quotas ------------------------------------------------------------------------------------------


def test_recorded_sizes_are_those_of_the_files(settings: Settings, media: Path, tmp_path: Path) -> None:
    settings.KEEP_ORIGINALS, settings.ORIGINALS_ROOT = True, tmp_path / "originals"
    for seed in range(3):
        assert send(seed).status_code == 201
    sizes = quotas.image_bytes()
    assert sizes["images"] + sizes["thumbnails"] == size_of_files(media)
    assert sizes["originals"] == size_of_files(tmp_path / "originals") > 0


def test_images_are_refused_over_their_quota_and_accepted_after_a_deletion(set_quota: SetQuota, media: Path) -> None:
    first = send(1).json()["product_id"]
    set_quota("images", int(1.5 * size_of_files(media)))
    stored = files_in(media)
    refused = send(2)
    assert_refused(refused, "quota_exceeded")
    assert "The images may take" in refused.json()["detail"]
    assert (Product.objects.count(), files_in(media)) == (1, stored)
    client_of("uploader").delete(f"/api/products/{first}")
    assert send(2).status_code == 201


def test_uploads_between_two_measurements_count(set_quota: SetQuota, settings: Settings, media: Path) -> None:
    set_quota("images", 10**9)
    assert send(0).status_code == 201
    set_quota("images", 3 * size_of_files(media))
    statuses = [send(seed).status_code for seed in range(1, 6)]
    assert (set(statuses), statuses[-1]) == ({201, 507}, 507)
    assert size_of_files(media) <= settings.QUOTA_BYTES["images"]


def test_originals_are_refused_over_their_quota(
    set_quota: SetQuota, settings: Settings, media: Path, tmp_path: Path
) -> None:
    settings.KEEP_ORIGINALS, settings.ORIGINALS_ROOT = True, tmp_path / "originals"
    set_quota("originals", 100)
    assert_refused(send(1), "quota_exceeded")
    assert (files_in(media), files_in(tmp_path)) == ([], [])


def test_imports_are_refused_over_their_quota(set_quota: SetQuota, imports_root: Path) -> None:
    set_quota("imports", 1000)
    browser = browser_of("uploader")
    assert ImportPage(browser, {"a.csv": "sku,name\nA,a\n"}).response.status_code == 302
    stored = files_in(imports_root)
    other = browser_of("manager")
    response = ImportPage(other, {"a.csv": "sku,name\n" + 100 * "A,aaaaaaaa\n"}).response
    assert (response.status_code, b"The uploads of imports may take" in response.content) == (507, True)
    assert files_in(imports_root) == stored


def test_import_command_names_the_quota(set_quota: SetQuota, tmp_path: Path, media: Path) -> None:
    write_images(tmp_path / "in", "a.jpg")
    set_quota("images", 10)
    result = run("import_products", tmp_path / "in")
    assert (result.code, "The images may take" in result.err) == (1, True)
    assert (Product.objects.count(), files_in(media)) == (0, [])


def test_changes_are_refused_when_the_history_is_over_its_quota(set_quota: SetQuota) -> None:
    product = make_product(name="Mug")
    set_quota("history", 10)
    assert_refused(client_of("uploader").patch(f"/api/products/{product.pk}", {"name": "Cup"}), "quota_exceeded")


def test_quotas_are_not_measured_for_each_upload(set_quota: SetQuota, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("images", "originals", "imports", "history"):
        set_quota(part, 10**9)
    measured: list[str] = []
    measure = quotas._measure

    def count(part: str) -> int:
        measured.append(part)
        return measure(part)

    monkeypatch.setattr(quotas, "_measure", count)
    for seed in range(4):
        assert send(seed).status_code == 201
    assert sorted(measured) == ["history", "images"]


def test_sum_of_all_sizes_is_read_from_the_index_alone() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the plan of SQLite")
    with CaptureQueriesContext(connection) as captured:
        quotas.image_bytes()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {captured.captured_queries[0]['sql']}")
        assert "COVERING INDEX image_bytes" in str(cursor.fetchall())
    assert ProductImage.objects.count() == 0
