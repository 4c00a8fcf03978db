"""Bounds on stored texts other than attributes."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from core.jobs import MAX_ERROR_LENGTH
from core.spreadsheets.reader import MAX_COLUMN_NAME
from gpu.encoders import registry, selection
from gpu.models import EmbeddingWorker
from gpu.monitoring import worker
from matching.models import Match
from matching.review.verdicts import MAX_NOTE_LENGTH, set_verdict
from products.importing.importer import RowResult, RowStatus
from products.importing.results import MAX_RAW_LENGTH, MAX_REASON_LENGTH, ImportResults
from products.importing.row import Row
from products.models import Import, Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import browser_of, make_case, make_product, save_product
from tests.helpers.sample_images import jpeg
from tests.helpers.web.import_page import ImportPage, zipped

pytestmark = pytest.mark.django_db(transaction=True)

LIMITS = {"sku": 200, "name": 500, "category": 200, "description": 20_000}


@pytest.mark.parametrize(("field", "limit"), LIMITS.items())
def test_texts_of_a_product_are_bounded_at_every_door(field: str, limit: int) -> None:
    api, browser, product = client_of("uploader"), browser_of("uploader"), make_product(sku="A")
    for length, is_stored in ((limit, True), (limit + 1, False)):
        text = "é" * length
        response: Any = api.patch(f"/api/products/{product.pk}", {field: text})
        assert response.status_code == (200 if is_stored else 400)
        Product.objects.update(sku="A")
        upload = {"sku": "B", field: text}
        response = api.post("/api/products/upload?wait=0", upload | {"image": _image()}, format="multipart")
        assert response.status_code == (201 if is_stored else 400)
        Product.objects.exclude(pk=product.pk).delete()
        assert save_product(product, **{field: text}).status_code == (302 if is_stored else 200)
        Product.objects.update(sku="A")
        response = browser.post("/admin/products/product/add/", upload | {"images": _image()})
        assert response.status_code == (302 if is_stored else 422)
        Product.objects.exclude(pk=product.pk).delete()
        row = {"image": "1.jpg", "sku": "C"} | {field: text}
        table = f"{','.join(row)}\n{','.join(row.values())}\n"
        page = ImportPage(browser, {"new.csv": table, "images.zip": zipped({"1.jpg": jpeg(1)})}).confirm()
        assert page.counts() == ({"CREATED": 1} if is_stored else {"REJECTED": 1})
        Product.objects.exclude(pk=product.pk).delete()


def test_product_with_an_older_long_name_can_be_changed() -> None:
    product = make_product(sku="A", name="n" * 300)
    Product.objects.filter(pk=product.pk).update(description="d" * 30_000)
    response = client_of("uploader").patch(f"/api/products/{product.pk}", {"category": "mugs"})
    assert (response.status_code, response.json()["category"]) == (200, "mugs")


def test_note_is_bounded() -> None:
    _, (match,) = make_case(80)
    reviewer = client_of("reviewer")
    for length, status in ((MAX_NOTE_LENGTH, 200), (MAX_NOTE_LENGTH + 1, 400)):
        assert reviewer.patch(f"/api/matches/{match.pk}", {"note": "é" * length}).status_code == status
    with pytest.raises(ValidationError, match="at most 10000 characters"):
        set_verdict(match.pk, "confirmed", user_in("reviewer"), "x" * (MAX_NOTE_LENGTH + 1))
    assert Match.objects.get().review_status == "pending"


def test_error_of_a_job_is_bounded() -> None:
    job = Import.objects.create(user=User.objects.create(username="rita"), table_name="new.csv")
    job.end("failed", "x" * 100_000)
    assert len(Import.objects.get().error) == MAX_ERROR_LENGTH


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_table_with_an_endless_column_name_is_refused(kind: str) -> None:
    header = ["sku", "x" * (MAX_COLUMN_NAME + 1)]
    data: bytes = f"{','.join(header)}\nA,1\n".encode()
    if kind == "xlsx":
        book, target = openpyxl.Workbook(), io.BytesIO()
        book.active.append(header)  # type: ignore[union-attr]
        book.save(target)
        data = target.getvalue()
    page = ImportPage(browser_of("uploader"), {f"new.{kind}": data})
    assert "The name of column 2 of new." in page.error
    assert not Import.objects.exists()


def test_results_keep_a_bounded_part_of_a_refused_row(tmp_path: Path) -> None:
    cell = "x" * 100_000
    row = Row(2, sku=cell, raw=["first", *([cell] * 500)])
    results = ImportResults(tmp_path)
    with results.writer() as writer:
        writer.write(RowResult(row, RowStatus.REJECTED, "validation_error", cell))
    (line,) = results.page(RowStatus.REJECTED, 1, 10)
    assert (line["raw"][0], len(line["raw"])) == ("first", 501)
    assert sum(map(len, line["raw"])) <= MAX_RAW_LENGTH + 501
    assert len(line["reason"]) == MAX_REASON_LENGTH + 1
    assert len(json.dumps(line)) < 2 * MAX_RAW_LENGTH


def test_row_of_a_worker_fits_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    status = registry.clip_status()
    long: Any = type(status)(**{**_values(status), "available": False, "reason": "x" * 100_000})
    monkeypatch.setattr(registry, "clip_status", lambda *_source: long)
    in_use = selection.in_use()
    monkeypatch.setattr(selection, "in_use", lambda: replace(in_use, name="m" * 300))
    values = worker.describe_process()
    EmbeddingWorker.objects.create(name="host:1", started_at=timezone.now(), **values)
    row = EmbeddingWorker.objects.get()
    assert (len(row.error), len(row.model_name)) == (worker.MAX_ERROR_LENGTH, 200)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are always Unicode")
def test_file_names_that_are_not_unicode_are_refused_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (b"good.jpg", b"bad\xff.jpg", b"\xed\xa0\xbd.jpg"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(jpeg(len(name)))
    for dry_run in ([], ["--dry-run"]):
        with pytest.raises(CommandError) as error:
            call_command("import_products", str(tmp_path), *dry_run)
        assert error.value.returncode == 3
        assert capsys.readouterr().err.count("the file name is not valid Unicode") == 2
    assert [product.sku for product in Product.objects.all()] == ["good"]


def _image() -> io.BytesIO:
    file = io.BytesIO(jpeg(1))
    file.name = "1.jpg"
    return file


def _values(status: Any) -> dict[str, Any]:
    return {name: getattr(status, name) for name in status.__dataclass_fields__}
