"""Images are synced to disk before their rows are committed, and a batch of files is synced in one pass."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from pytest_django import Settings
from rest_framework.test import APIClient

from core import files
from products.images import storage
from products.importing.importer import import_rows
from products.importing.rows import open_source
from products.models import Product, ProductImage
from tests.helpers import sample_images
from tests.helpers.accounts import client_of
from tests.helpers.commands import run
from tests.helpers.files import files_in
from tests.helpers.rows import browser_of
from tests.helpers.tables import write_images
from tests.helpers.web.import_page import ImportPage

pytestmark = pytest.mark.django_db(transaction=True)

Events = list[tuple[str, str]]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, media: Path) -> Events:
    """Record all syncs, renames and commits of this process in order, with their paths."""
    seen: Events = []
    fsync, replace, commit = os.fsync, os.replace, type(connections["default"])._commit  # type: ignore[attr-defined]

    def path_of(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())

    def record_fsync(descriptor: int) -> None:
        fsync(descriptor)
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append((kind, path_of(descriptor)))

    def record_replace(source: Any, target: Any) -> None:
        seen.append(("rename", f"{source} {target}"))
        replace(source, target)

    def record_commit(self: Any) -> Any:
        seen.append(("commit", str(ProductImage.objects.count())))
        return commit(self)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(type(connections["default"]), "_commit", record_commit)
    return seen


def upload(api: APIClient, *seeds: int) -> Any:
    images = [SimpleUploadedFile(f"{seed}.jpg", sample_images.jpeg(seed)) for seed in seeds]
    return api.post("/api/products/upload", {"image": images}, format="multipart")


def kinds(events: Events, *names: str) -> list[str]:
    return [kind for kind, _path in events if kind in names]


def test_files_are_synced_renamed_and_their_folders_synced_before_the_commit(
    events: Events, media: Path, settings: Settings, tmp_path: Path
) -> None:
    settings.KEEP_ORIGINALS, settings.ORIGINALS_ROOT = True, tmp_path / "originals"
    assert upload(client_of("uploader"), 1).status_code == 201
    name = str(ProductImage.objects.get().file.name)
    commit = events.index(("commit", "1"))
    for path in (media / name, media / storage.thumbnail_name(name), next((tmp_path / "originals").glob("*/*"))):
        [renamed] = [i for i, (kind, what) in enumerate(events) if kind == "rename" and what.endswith(f" {path}")]
        part = events[renamed][1].split(" ")[0]
        folder = max(i for i, event in enumerate(events[:commit]) if event == ("folder", str(path.parent)))
        assert events.index(("file", part)) < renamed < folder < commit
        for parent in (path.parent, path.parent.parent):
            assert ("folder", str(parent.parent)) in events[:commit]


def test_images_of_a_request_share_two_folder_syncs(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("products.images.storage.uuid.uuid4", same_shard())
    upload(client_of("uploader"), 0)
    events.clear()
    assert upload(client_of("uploader"), 1, 2, 3).status_code == 201
    assert kinds(events, "file", "folder") == ["file"] * 6 + ["folder"] * 2


def test_import_syncs_a_batch_of_rows_in_one_pass(
    events: Events, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("products.images.storage.uuid.uuid4", same_shard())
    upload(client_of("uploader"), 0)
    write_images(tmp_path / "in", *(f"{number}.jpg" for number in range(20)))
    events.clear()
    assert run("import_products", tmp_path / "in").code == 0
    synced = kinds(events, "file", "folder")
    assert synced == ["file"] * 32 + ["folder"] * 2 + ["file"] * 8 + ["folder"] * 2


def same_shard() -> Any:
    """Return a uuid4 with a constant prefix, so that all files are in one existing folder."""
    uuid4 = uuid.uuid4
    return lambda: uuid.UUID(f"ab{uuid4().hex[2:]}")


def test_stopped_import_leaves_no_files_without_rows(media: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "in", *(f"{number}.jpg" for number in range(20)))
    with open_source(tmp_path / "in") as source:
        results = import_rows(source)
        next(results)
        assert len(files_in(media)) == 32
        results.close()
    assert len(files_in(media)) == 2 * Product.objects.count() == 2


@pytest.mark.parametrize("nth", range(1, 5))
def test_image_that_cannot_be_synced_is_rejected_and_leaves_no_files(
    media: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    (media / "pictures").mkdir(parents=True)
    calls = iter(range(1, 100))
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if str(media) in str(Path(f"/proc/self/fd/{descriptor}").readlink()) and next(calls) == nth:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    api = client_of("uploader")
    api.raise_request_exception = False
    assert upload(api, 1).json()["code"] == "disk_full"
    assert (Product.objects.count(), files_in(media)) == (0, [])


def test_files_of_an_import_are_synced_before_it_is_accepted(events: Events, imports_root: Path) -> None:
    sent = ImportPage(browser_of("uploader"), {"a.csv": "sku,name\nA,a\n"})
    assert sent.counts() == {"REJECTED": 1}
    synced = [path for kind, path in events if kind == "file" and path.startswith(str(imports_root))]
    assert any("table.csv" in path for path in synced)
    assert any(path.endswith("preview/rejected.jsonl") for path in synced)


def test_thumbnail_is_replaced_without_ever_being_missing(events: Events, media: Path) -> None:
    upload(client_of("uploader"), 1)
    image = ProductImage.objects.get()
    thumbnail = media / image.thumbnail_name
    thumbnail.write_bytes(b"damaged")
    events.clear()
    storage.rebuild_thumbnail(str(image.file.name))
    assert thumbnail.read_bytes().startswith(b"\xff\xd8")
    assert kinds(events, "file", "rename", "folder") == ["file", "rename", "folder"]


def test_folders_made_by_another_process_are_synced_too(events: Events, media: Path) -> None:
    (media / "pictures" / "ab").mkdir(parents=True)
    files.write_file(media / "pictures" / "ab" / "x.jpg", b"x")
    assert ("folder", str(media / "pictures")) in events
    assert ("folder", str(media)) in events
