"""A full disk: accepted uploads stay, others are rejected with a code, and work continues with free space."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django import Settings
from rest_framework.test import APIClient

from gpu.vectors import CLIP
from matching import index
from matching.index import Filters, IndexFileError, main_file, maintenance
from matching.index.inprocess import VectorCatalogue
from products.models import Product
from tests.faults.small_disk import SmallDisk, small_disk
from tests.helpers.accounts import client_of
from tests.helpers.files import files_in
from tests.helpers.processes import Response, Stack, wait_until
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import as_file, jpeg, noise
from tests.helpers.vectors import MODEL, add_products, embeddings, random_vectors

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

FULL = {(507, "disk_full"), (503, "database_unavailable")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def module_disk(folder: Path) -> Iterator[SmallDisk]:
    with small_disk(folder / "var", megabytes=24) as disk:
        yield disk


@pytest.fixture(scope="module")
def installation(folder: Path, module_disk: SmallDisk) -> Iterator[Stack]:
    """Run a web server whose data folder is the small disk. The logs are on another disk."""
    # Without a reserve, so that the disk can be filled.
    with Stack(folder, CATALOGMATCH_DISK_RESERVE_MB="0") as running:
        yield running


@pytest.fixture
def disk(module_disk: SmallDisk) -> Iterator[SmallDisk]:
    yield module_disk
    module_disk.free()


@pytest.fixture
def stack(installation: Stack) -> Iterator[Stack]:
    yield installation
    installation.stop_workers()
    installation.execute("DELETE FROM gpu_samples")
    installation.execute("DELETE FROM gpu_workers")


def run_command(stack: Stack, *arguments: str) -> tuple[int, str]:
    """Run a management command. Return its exit code and stdout, and after a failure also stderr."""
    try:
        return 0, stack.manage(*arguments)
    except subprocess.CalledProcessError as error:
        return error.returncode, f"{error.stdout}{error.stderr}"


def wait_until_all_is_embedded(stack: Stack) -> None:
    unfinished = "SELECT count(*) FROM product_images WHERE state IN ('pending', 'claimed')"
    wait_until(lambda: stack.rows(unfinished) == [(0,)], 60, "all accepted images are embedded")


def assert_consistent(stack: Stack) -> None:
    """Check that every image has its files and features once, no other file exists, and ``verify`` passes."""
    [(images,)] = stack.rows("SELECT count(*) FROM product_images")
    assert len(files_in(stack.media)) == 2 * images
    assert stack.rows("SELECT state, attempts, count(*) FROM product_images GROUP BY 1, 2") == [("ready", 0, images)]
    assert stack.rows("SELECT count(*), count(DISTINCT image_id) FROM features") == [(images, images)]
    code, output = run_command(stack, "verify")
    assert code == 0, output


def status_and_code(response: Response) -> tuple[int, str]:
    return response.status, response.body["code"]


def test_uploads_to_a_full_disk_are_rejected_and_leave_no_files(stack: Stack, disk: SmallDisk) -> None:
    stack.start_worker()
    disk.fill(leave=150_000)
    responses = [stack.upload([as_file(noise(seed, (200, 200)))]) for seed in range(12)]
    rejected = [response for response in responses if response.status != 201]
    assert rejected
    assert {status_and_code(response) for response in rejected} <= FULL
    assert "disk is full" in stack.log("web") or "No space left" in stack.log("web")
    [(products,)] = stack.rows("SELECT count(*) FROM products")
    assert products == len(responses) - len(rejected)
    assert len(files_in(stack.media)) == 2 * products
    disk.free()
    assert stack.upload([jpeg(1)], wait=60).body["status"] == "success"
    wait_until_all_is_embedded(stack)
    assert_consistent(stack)


@pytest.mark.parametrize("leave", [0, 16_000])
def test_images_wait_while_the_disk_is_too_full_for_their_features(stack: Stack, disk: SmallDisk, leave: int) -> None:
    stack.start_worker(FAULT_SECONDS_PER_IMAGE="0.05")
    before = len(stack.log("worker"))
    product_id = stack.upload([jpeg(1000 * leave + seed) for seed in range(96)]).body["product_id"]
    disk.fill(leave)
    # More often than the allowed number of attempts.
    met = re.compile("disk is full|disk I/O error")
    wait_until(lambda: len(met.findall(stack.log("worker")[before:])) > 6, 60, "the worker meets the full disk")
    disk.free()
    stack.wait_for_states(product_id, ready=96)
    assert_consistent(stack)


def test_import_stops_with_the_reason_and_resumes_with_free_space(
    stack: Stack, disk: SmallDisk, tmp_path: Path
) -> None:
    for seed in range(40):
        (tmp_path / f"imported-{seed}.jpg").write_bytes(as_file(noise(seed, (160, 160))))
    disk.fill(leave=400_000)
    code, output = run_command(stack, "import_products", str(tmp_path))
    assert (code, "Run the same command again to continue." in output) == (1, True)
    disk.free()
    stack.start_worker()
    assert run_command(stack, "import_products", str(tmp_path))[0] == 0
    assert stack.rows("SELECT count(*) FROM products WHERE name LIKE 'imported-%'") == [(40,)]
    wait_until_all_is_embedded(stack)
    assert_consistent(stack)


def test_failed_backup_on_a_full_disk_leaves_no_partial_backup(stack: Stack, disk: SmallDisk) -> None:
    assert stack.upload([jpeg(seed) for seed in range(8)]).status == 201
    disk.fill(leave=200_000)
    target = disk.path / "backups" / "today"
    code, output = run_command(stack, "backup", str(target))
    assert (code, "The backup could not be written" in output) == (1, True)
    assert files_in(target.parent) == []
    disk.free()
    stack.start_worker()
    wait_until_all_is_embedded(stack)
    assert_consistent(stack)
    assert run_command(stack, "backup", str(target))[0] == 0


@pytest.mark.django_db
def test_failed_index_build_on_a_full_disk_keeps_the_old_index(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(maintenance, "MIN_VECTORS_FOR_ANN", 1000)
    vectors = random_vectors(2000, dim=64)
    products = add_products(embeddings(vectors))
    with small_disk(tmp_path / "index", megabytes=4) as disk:
        settings.INDEX_DIR = disk.path
        index.rebuild()
        before = main_file.read_stamp(CLIP, MODEL)
        for leave in (0, 20_000, 200_000):
            disk.fill(leave)
            with pytest.raises(IndexFileError, match="cannot be written"):
                index.rebuild()
            process = VectorCatalogue(CLIP, MODEL)
            [hit] = process.search(np.atleast_2d(vectors[3]), 1, Filters())
            assert hit.product_id == products[3].pk
            assert process.current_snapshot().main is not None
            assert main_file.read_stamp(CLIP, MODEL) == before
            assert len(files_in(disk.path)) == 5  # stamp, vectors, rows, the builder's lock and the ballast
        disk.free()
        index.rebuild()
        assert main_file.read_stamp(CLIP, MODEL) != before


@pytest.mark.django_db(transaction=True)
def test_page_says_that_the_disk_is_full(settings: Settings, tmp_path: Path) -> None:
    client = browser_of("manager")
    client.raise_request_exception = False
    with small_disk(tmp_path / "media", megabytes=1) as disk:
        settings.MEDIA_ROOT = disk.path
        settings.DISK_RESERVE_BYTES = 0
        disk.fill()
        form = {"images": SimpleUploadedFile("a.jpg", jpeg(1)), "name": "too large"}
        response = client.post("/admin/products/product/add/", form)
        assert (response.status_code, b"The disk is full." in response.content) == (507, True)
        assert not Product.objects.exists()
        disk.free()
        form["images"] = SimpleUploadedFile("a.jpg", jpeg(1))
        assert client.post("/admin/products/product/add/", form).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_refusals_begin_at_the_reserve_and_end_above_it(settings: Settings, tmp_path: Path) -> None:
    api = client_of("uploader")
    with small_disk(tmp_path / "media", megabytes=8) as disk:
        settings.MEDIA_ROOT = disk.path
        settings.DISK_RESERVE_BYTES = 4 * 2**20
        disk.fill(leave=4 * 2**20 + 400_000)
        images = [as_file(noise(seed, (200, 200))) for seed in range(12)]
        statuses = [_send(api, image).status_code for image in images]
        assert (set(statuses), statuses[0], statuses[-1]) == ({201, 507}, 201, 507)
        free = os.statvfs(disk.path)
        # Files take whole pages.
        assert free.f_bavail * free.f_frsize > 4 * 2**20 - 3 * 4096
        assert _send(api, images[-1]).json()["code"] == "disk_full"
        assert len(files_in(disk.path)) == 2 * Product.objects.count() + 1  # and the ballast
        disk.free()
        assert _send(api, images[-1]).status_code == 201


def _send(api: APIClient, data: bytes) -> Any:
    return api.post("/api/products/upload", {"image": SimpleUploadedFile("a.jpg", data)}, format="multipart")
