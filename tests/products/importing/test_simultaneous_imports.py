"""The same table imported twice at once: by processes, by threads, and beside uploads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from core.errors import UnreadableFileError
from products import import_retention
from products.images import storage
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.importing import jobs
from products.importing.importer import RowStatus, import_rows
from products.importing.rows import StoredUpload, open_source, open_upload
from products.models import Import, Product, ProductImage
from tests.helpers.accounts import user_in
from tests.helpers.files import files_in
from tests.helpers.installations import manage, start
from tests.helpers.jobs import wait_for_jobs
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images
from tests.helpers.threads import run_concurrently

ROWS = 40


def table(folder: Path, name: str = "table.csv", **columns: str) -> Path:
    """Write a table of rows, each with its own SKU and image."""
    write_images(folder, *(f"{number}.jpg" for number in range(ROWS)))
    rows = [
        {"sku": f"S{number}", "name": f"Number {number}", "image": f"{number}.jpg", **columns} for number in range(ROWS)
    ]
    return write_csv(folder / name, rows)


def test_two_processes_that_import_one_table_add_each_product_once(tmp_path: Path) -> None:
    data, path = tmp_path / "data", table(tmp_path / "shop")
    assert manage(data, "migrate").returncode == 0
    processes = [start(data, "import_products", str(path)) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    script = (
        "import json; from products.models import Product, ProductImage;"
        "print(json.dumps([Product.objects.count(), ProductImage.objects.count()]))"
    )
    assert json.loads(manage(data, "shell", "--no-imports", "--command", script).stdout) == [ROWS, ROWS]
    assert len(files_in(data / "media")) == 2 * ROWS


@pytest.fixture
def saving_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two imports look for the products of their rows before either saves one."""
    barrier, stage = Barrier(2), storage.StagedFiles.write

    def waiting(*arguments: Any) -> None:
        barrier.wait(30)
        stage(*arguments)

    monkeypatch.setattr(storage.StagedFiles, "write", waiting)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("saving_at_once")
def test_two_threads_that_import_one_table_add_each_product_once(tmp_path: Path, media: Path) -> None:
    path = table(tmp_path)

    def run() -> Counter[RowStatus]:
        with open_source(path) as source:
            return Counter(result.status for result in import_rows(source))

    counts = run_concurrently(run, run)
    assert sum(counts, Counter()) == {RowStatus.CREATED: ROWS, RowStatus.SKIPPED: ROWS}
    assert (Product.objects.count(), ProductImage.objects.count()) == (ROWS, ROWS)
    assert len(files_in(media)) == 2 * ROWS


@pytest.mark.django_db(transaction=True)
def test_import_and_upload_of_one_sku_at_once_are_one_product(tmp_path: Path) -> None:
    path = table(tmp_path)

    def upload() -> None:
        for number in range(1, ROWS, 2):
            add_product([Upload(jpeg(number + 1))], sku=f"S{number}")

    def run() -> None:
        with open_source(path) as source:
            assert RowStatus.REJECTED not in {result.status for result in import_rows(source)}

    run_concurrently(upload, run)
    assert Product.objects.count() == ProductImage.objects.count() == ROWS


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_keep_the_attributes_of_both(tmp_path: Path) -> None:
    Product.objects.bulk_create([Product(sku=f"S{number}") for number in range(60)])

    def change(column: str) -> None:
        rows = [{"sku": f"S{number}", column: "set"} for number in range(60)]
        upload = StoredUpload(write_csv(tmp_path / f"{column}.csv", rows), "t.csv")
        with open_upload(upload, None) as source:
            assert {result.status for result in import_rows(source, update=True)} == {RowStatus.UPDATED}

    run_concurrently(*(lambda column=column: change(column) for column in ("colour", "size", "weight")))
    attributes = list(Product.objects.values_list("attributes", flat=True))
    assert attributes == [{"colour": "set", "size": "set", "weight": "set"}] * 60


@pytest.fixture
def small_table() -> SimpleUploadedFile:
    return SimpleUploadedFile("t.csv", b"sku,name\nS1,new name\n")


@pytest.mark.django_db(transaction=True)
def test_import_confirmed_twice_at_once_runs_once(small_table: SimpleUploadedFile) -> None:
    Product.objects.create(sku="S1")
    job = jobs.receive(user_in("uploader"), [small_table])
    wait_for_jobs()
    copies = [Import.objects.get(pk=job.pk) for _ in range(6)]
    assert sorted(run_concurrently(*(lambda copy=copy: jobs.confirm(copy) for copy in copies))) == [False] * 5 + [True]
    wait_for_jobs()
    job.refresh_from_db()
    assert (job.state, job.counts["UPDATED"], job.done) == ("done", 1, 1)


@pytest.mark.django_db(transaction=True)
def test_file_sent_several_times_at_once_leaves_one_import_to_confirm(imports_root: Path) -> None:
    def send() -> str:
        try:
            return str(jobs.receive(user, [SimpleUploadedFile("t.csv", b"sku,name\nS1,new name\n")]).pk)
        except UnreadableFileError as error:
            return str(error)

    user = user_in("uploader")
    results = run_concurrently(*[send] * 4)
    wait_for_jobs()
    assert str(Import.objects.get().pk) in results
    import_retention.delete_expired()  # a check that was replaced may have written on for a moment
    assert [path.name for path in imports_root.iterdir()] == [Import.objects.get().pk.hex]


@pytest.mark.django_db(transaction=True)
def test_import_that_is_confirmed_at_this_moment_is_not_discarded_by_the_next_file(
    monkeypatch: pytest.MonkeyPatch, small_table: SimpleUploadedFile
) -> None:
    user = user_in("uploader")
    job = jobs.receive(user, [small_table])
    wait_for_jobs()
    expired = import_retention.delete_expired

    def late() -> None:
        Import.objects.filter(pk=job.pk).update(state="running")
        expired()

    monkeypatch.setattr("products.importing.jobs.delete_expired", late)
    with pytest.raises(UnreadableFileError, match="still running"):
        jobs.receive(user, [SimpleUploadedFile("t.csv", b"sku,name\nS2,another\n")])
    assert Import.objects.get().pk == job.pk
