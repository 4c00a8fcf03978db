"""The command verify: reports each fault and fixes what can be fixed."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connection
from django.utils import timezone
from pytest_django import Settings

from core import files
from gpu.vectors import LEGACY_MODEL
from matching.index import changes, main_file
from products.images import originals
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, ProductImage, triggers
from products.queue.embed import embed_pending
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture
def image() -> ProductImage:
    """Return an uploaded and embedded image."""
    added = add_product([Upload(jpeg(1))], sku="A-1", is_historical=True)
    embed_pending()
    return ProductImage.objects.get(pk=added.images[0].pk)


def verify(*options: str) -> tuple[int, str]:
    """Return the exit code and output of the command."""
    out = StringIO()
    try:
        call_command("verify", *options, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue()
    return 0, out.getvalue()


def assert_fixed(fault: str) -> None:
    """Check that ``verify`` reports the fault, ``verify --fix`` fixes it, and no fault is left."""
    assert verify()[0] == 3
    assert fault in verify()[1]
    code, out = verify("--fix")
    assert (code, fault in out) == (0, True)
    embed_pending()
    assert verify() == (0, "No problems found.\n")


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_intact_installation_passes(image: ProductImage) -> None:
    assert verify() == (0, "No problems found.\n")


def test_changed_file_is_found_although_it_still_decodes(image: ProductImage) -> None:
    Path(image.file.path).write_bytes(jpeg(2))
    code, out = verify("--fix")
    assert code == 3
    assert f"Image {image.pk} of product {image.product_id}: its file is not what was stored" in out


def test_missing_file_is_reported_and_cannot_be_fixed(image: ProductImage) -> None:
    Path(image.file.path).unlink()
    code, out = verify("--fix")
    assert code == 3
    assert "its file is missing" in out


def test_image_without_a_stored_hash_is_decoded(image: ProductImage) -> None:
    ProductImage.objects.update(file_sha256="")
    assert verify()[0] == 0
    path = Path(image.file.path)
    path.write_bytes(path.read_bytes()[:400])
    assert "its file is damaged" in verify()[1]


def test_missing_thumbnail_is_created_again(image: ProductImage, media: Path) -> None:
    thumbnail = media / image.thumbnail_name
    before = thumbnail.read_bytes()
    thumbnail.unlink()
    assert_fixed("has no thumbnail")
    assert thumbnail.stat().st_size == pytest.approx(len(before), rel=0.2)


def test_old_orphaned_files_are_deleted(image: ProductImage, media: Path) -> None:
    forgotten = media / "pictures" / "ab" / ("ab" + 30 * "0" + ".jpg")
    forgotten.parent.mkdir(exist_ok=True)
    forgotten.write_bytes(b"left behind")
    age(forgotten, 60)
    assert verify()[0] == 0, "it may belong to an upload that is just being saved"
    age(forgotten, 7200)
    assert_fixed("belongs to no image")
    assert not forgotten.exists()
    assert Path(image.file.path).exists()


def test_original_of_an_image_is_kept_and_an_orphaned_one_deleted(settings: Settings, tmp_path: Path) -> None:
    settings.KEEP_ORIGINALS, settings.ORIGINALS_ROOT = True, tmp_path / "originals"
    original = originals.original_path(str(add_product([Upload(jpeg(1))]).images[0].file.name))
    embed_pending()
    age(original, 7200)
    assert verify()[0] == 0
    forgotten = originals.original_path("pictures/ab/ab00.jpg")
    files.write_file(forgotten, b"left behind")
    age(forgotten, 7200)
    assert_fixed("belongs to no image")
    assert original.exists()
    assert not forgotten.exists()


@pytest.mark.usefixtures("unconstrained_vectors")
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_invalid_vectors_are_computed_again(image: ProductImage, value: float) -> None:
    feature = Feature.objects.create(
        image=image, product=image.product, kind="clip", model_name="some-model", dim=8,
        color_features=np.full(8, value, "<f4").tobytes(),
    )  # fmt: skip
    triggers.install_triggers(DEFAULT_DB_ALIAS)
    assert_fixed("1 features are invalid vectors")
    assert not Feature.objects.filter(pk=feature.pk).exists()


def test_ready_image_without_features_is_embedded_again(image: ProductImage) -> None:
    Feature.objects.all().delete()
    assert_fixed("have no features")
    assert Feature.objects.filter(image=image, kind="legacy").exists()


def test_features_of_the_wrong_product_are_fixed(image: ProductImage) -> None:
    other = add_product([Upload(jpeg(3))], sku="B-1").product
    embed_pending()
    Feature.objects.filter(image=image).update(product=other)
    assert_fixed("1 features have another product")
    assert Feature.objects.get(image=image).product_id == image.product_id


def test_claims_of_dead_workers_are_released(image: ProductImage) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    ProductImage.objects.update(state="claimed", claim_token=uuid.uuid4(), claimed_at=long_ago)
    assert_fixed("claimed by workers that are gone")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite loses triggers when a table is altered")
def test_missing_change_log_triggers_are_installed_again(image: ProductImage) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER index_feature_deleted")
    assert_fixed("index_feature_deleted")
    assert not changes.missing_triggers()


def test_missing_vector_triggers_are_installed_again(image: ProductImage) -> None:
    triggers.drop_triggers(DEFAULT_DB_ALIAS)
    assert_fixed("feature_vector_inserted")
    assert not triggers.missing_triggers(DEFAULT_DB_ALIAS)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the PostgreSQL engine has no index files")
def test_damaged_index_file_is_replaced(image: ProductImage, settings: Settings, tmp_path: Path) -> None:
    settings.INDEX_DIR = tmp_path / "index"
    stamp = main_file.folder_of("legacy", LEGACY_MODEL) / "stamp.json"
    stamp.parent.mkdir(parents=True)
    stamp.write_text("{")
    assert_fixed("is not a stamp")
