"""The command doctor: one line per part with what to do, and an exit code for scripts."""

from __future__ import annotations

import shutil
import uuid
from datetime import timedelta

import numpy as np
import pytest
from django.core.management import call_command
from django.utils import timezone

from matching import index
from products import quotas
from products.images import intake
from products.images.cleaning import Upload
from products.models import Feature, ProductImage
from products.queue.embed import embed_pending
from tests.helpers.commands import run
from tests.helpers.sample_images import jpeg
from tests.helpers.vectors import DIM, add_products, embeddings, random_vectors

PARTS = [
    "device",
    "model",
    "broker",
    "database",
    "features",
    "index",
    "media",
    "colours",
    "disk",
    "storage",
    "access",
    "queue",
    "policy",
    "answers",
    "web",
]


@pytest.fixture(autouse=True)
def static_files(settings, tmp_path) -> None:
    """Create the folder of collected static files, as in a deployment."""
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATIC_ROOT.mkdir()
    (settings.STATIC_ROOT / "staticfiles.json").write_text("{}")


@pytest.fixture
def image(db) -> ProductImage:
    """Return an embedded image."""
    intake.add_product([Upload(jpeg(1), "a.jpg")], sku="A")
    embed_pending()
    return ProductImage.objects.get()


def diagnosis() -> tuple[int, dict[str, str]]:
    """Return the exit code, and the line of each part from its level on."""
    ran = run("doctor")
    lines = {line.split()[1]: line for line in ran.out.splitlines()}
    return ran.code, lines


def test_healthy_installation_gets_a_line_per_part_and_exit_code_0(image):
    code, lines = diagnosis()
    assert code == 0
    assert list(lines) == PARTS
    assert lines.pop("model").startswith("WARN")  # the tests have no weights
    assert {line.split()[0] for line in lines.values()} == {"OK"}


def test_missing_weights_are_reported_with_the_download_command(db):
    _, lines = diagnosis()
    assert "download_model" in lines["model"]
    assert "legacy features" in lines["model"]


@pytest.mark.usefixtures("unconstrained_vectors")
def test_invalid_embedding_fails(image):
    vector = np.full(512, np.nan, "<f4")
    Feature.objects.create(
        image=image, product=image.product, kind="clip", model_name="m", dim=512, color_features=vector.tobytes()
    )
    code, lines = diagnosis()
    assert code == 1
    assert lines["features"].startswith("FAIL")


@pytest.mark.usefixtures("unconstrained_vectors")
def test_feature_that_the_index_left_out_fails(db, monkeypatch):
    monkeypatch.setattr("catalogmatch.operations.doctor.MAX_CHECKED_FEATURES", 10)
    monkeypatch.setattr("matching.index.maintenance.MIN_VECTORS_FOR_ANN", 100)
    first, *_ = add_products(embeddings(random_vectors(200)))
    first.features.update(color_features=bytes(4 * DIM))
    index.rebuild()
    code, lines = diagnosis()
    assert code == 1
    assert f"feature {first.features.get().pk}" in lines["features"]


def test_missing_image_file_fails(image, media):
    (media / image.file.name).unlink()
    code, lines = diagnosis()
    assert code == 1
    assert lines["media"].startswith("FAIL")
    assert image.file.name in lines["media"]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"state": "pending"}, "reindex"),
        ({"state": "failed"}, "reindex --failed"),
        (
            {"state": "claimed", "claim_token": uuid.uuid4(), "claimed_at": timezone.now() - timedelta(days=1)},
            "workers that are gone",
        ),
    ],
)
def test_queue_that_needs_attention_gets_a_warning(image, change, hint):
    ProductImage.objects.update(**change)
    code, lines = diagnosis()
    assert code == 0
    assert lines["queue"].startswith("WARN")
    assert hint in lines["queue"]


def test_unreachable_broker_fails(db, settings):
    settings.HAS_BROKER = True
    settings.CELERY_BROKER_URL = "redis://:secret@127.0.0.1:1/0"
    code, lines = diagnosis()
    assert code == 1
    assert lines["broker"].startswith("FAIL")
    assert "secret" not in lines["broker"]


def test_a_full_disk_fails(db, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 100 * 2**20})())
    code, lines = diagnosis()
    assert code == 1
    assert lines["disk"].startswith("FAIL")


@pytest.mark.parametrize(("quota", "level"), [(10**9, "OK"), (0.98, "WARN"), (1.1, "FAIL")])
def test_quota_that_is_nearly_used_up_is_reported(image, settings, quota, level):
    taken = quotas.image_bytes()
    size = taken["images"] + taken["thumbnails"]
    settings.QUOTA_BYTES = settings.QUOTA_BYTES | {"images": quota if quota > 2 else int(size / quota)}
    _, lines = diagnosis()
    assert lines["storage"].startswith(level)
    assert "history 0.0" in lines["storage"]
    assert ("CATALOGMATCH_QUOTA_IMAGES_MB" in lines["storage"]) == (level != "OK")


def test_disk_whose_reserve_is_used_up_fails(db, settings, tmp_path):
    settings.DISK_RESERVE_BYTES = shutil.disk_usage(tmp_path).total
    _, lines = diagnosis()
    assert lines["disk"].startswith("FAIL")
    assert "refused" in lines["disk"]


def test_debug_mode_gets_a_warning_and_missing_static_files_fail(db, settings):
    (settings.STATIC_ROOT / "staticfiles.json").unlink()
    code, lines = diagnosis()
    assert (code, lines["web"].split()[0]) == (1, "FAIL")
    settings.DEBUG = True
    code, lines = diagnosis()
    assert (code, lines["web"].split()[0]) == (0, "WARN")


@pytest.mark.django_db(transaction=True)
def test_missing_migrations_fail(settings):
    call_command("migrate", "accounts", "zero", verbosity=0)
    try:
        code, lines = diagnosis()
    finally:
        call_command("migrate", "accounts", verbosity=0)
    assert code == 1
    assert lines["database"].startswith("FAIL")
    assert "manage.py migrate" in lines["database"]


def test_images_of_an_earlier_decoding_are_counted(image):
    ProductImage.objects.update(decoding=0)
    _, lines = diagnosis()
    assert "1 images were decoded by an earlier version and may show wrong colours; they have no" in lines["colours"]
    assert lines["colours"].startswith("OK")
    ProductImage.objects.update(original_bytes=1)
    _, lines = diagnosis()
    assert lines["colours"].startswith("WARN")
