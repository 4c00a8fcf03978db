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
from matching.index import SearchVectorError, changes, main_file
from matching.service import find_matches
from products.images import originals
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, ProductImage, triggers
from products.queue.embed import best_features, embed_pending
from products.text import trigrams
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
    path = Path(image.file.path)
    path.write_bytes(path.read_bytes()[:400])
    assert "its file is damaged" in verify()[1]


def test_missing_checksums_are_computed(image: ProductImage) -> None:
    checksums = image.file_sha256, image.thumbnail_sha256, image.features.get().checksum
    ProductImage.objects.update(file_sha256="", thumbnail_sha256="")
    Feature.objects.update(checksum=None)
    assert_fixed("1 images lack the checksum of a file, because an earlier version stored them")
    image.refresh_from_db()
    assert (image.file_sha256, image.thumbnail_sha256, image.features.get().checksum) == checksums


def test_missing_thumbnail_is_created_again(image: ProductImage, media: Path) -> None:
    thumbnail = media / image.thumbnail_name
    before = thumbnail.read_bytes()
    thumbnail.unlink()
    assert_fixed("its thumbnail is missing")
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


def flip(path: Path, place: int = -5) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_flipped_thumbnail_is_made_again(image: ProductImage, media: Path) -> None:
    flip(media / image.thumbnail_name)
    assert_fixed(f"Image {image.pk} of product {image.product_id}: its thumbnail is not what was stored.")


@pytest.fixture
def original(settings: Settings, tmp_path: Path) -> Path:
    """Upload an image whose original is kept. Return the path of the original."""
    settings.KEEP_ORIGINALS, settings.ORIGINALS_ROOT = True, tmp_path / "originals"
    name = str(add_product([Upload(jpeg(1))]).images[0].file.name)
    embed_pending()
    return originals.original_path(name)


def test_damaged_file_is_made_again_from_its_original(original: Path) -> None:
    image = ProductImage.objects.get()
    before = Path(image.file.path).read_bytes()
    flip(Path(image.file.path))
    assert_fixed("its file is not what was stored")
    assert Path(image.file.path).read_bytes() == before
    Path(image.file.path).unlink()
    assert_fixed("its file is missing")


def test_damaged_original_is_named_and_kept(original: Path) -> None:
    flip(original)
    code, out = verify("--fix")
    assert code == 3
    assert "its original is not what was stored." in out
    assert str(original) in out
    image = ProductImage.objects.get()
    flip(Path(image.file.path))
    code, out = verify("--fix")
    assert (code, out.count("its original is not"), out.count("its file is not")) == (3, 1, 1)
    assert original.exists()


def flip_features(count: int, seed: int = 1) -> None:
    """Flip a random bit of a random BLOB in each of the first features, as a bad disk would."""
    rng = np.random.default_rng(seed)
    with connection.cursor() as cursor:
        for feature in Feature.objects.order_by("pk")[:count]:
            column = rng.choice(["color_features", "texture_features"])
            data = bytearray(getattr(feature, column))
            data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            cursor.execute(f"UPDATE features SET {column} = %s WHERE id = %s", [bytes(data), feature.pk])


def test_two_hundred_flipped_features_are_named_and_computed_again(image: ProductImage) -> None:
    for number in range(2, 202):
        add_product([Upload(jpeg(number, size=(40, 40)))])
    embed_pending()
    before = {row.image_id: row.to_features().to_blobs() for row in Feature.objects.all()}
    damaged = list(Feature.objects.order_by("pk").values_list("pk", "image_id")[:200])
    flip_features(200)

    code, out = verify()
    assert code == 3
    for feature, image_id in damaged:
        assert f"Features {feature} (legacy legacy-1) of image {image_id} of product" in out
    assert len(out.splitlines()) == 200
    assert_fixed("are not what was stored")
    assert {row.image_id: row.to_features().to_blobs() for row in Feature.objects.all()} == before


def test_problems_beyond_the_bound_are_counted(image: ProductImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalogmatch.operations.verify.MAX_NAMED", 2)
    for number in range(2, 7):
        add_product([Upload(jpeg(number, size=(40, 40)))])
    embed_pending()
    flip_features(6)
    code, out = verify()
    assert code == 3
    assert len(out.splitlines()) == 3
    assert "4 more problems are not named here. The last: Features" in out
    assert_fixed("4 more problems are not named here")


def test_damaged_features_of_a_damaged_image_are_named_and_not_computed_from_it(image: ProductImage) -> None:
    flip_features(1)
    flip(Path(image.file.path))
    feature = Feature.objects.get()
    code, out = verify("--fix")
    assert code == 3
    assert f"Features {feature.pk} (legacy legacy-1) of image {image.pk}" in out
    assert "cannot be computed again, because its file is not what was stored" in out
    embed_pending()
    assert Feature.objects.get().is_damaged


def test_damaged_features_are_not_used_by_any_search(image: ProductImage) -> None:
    other = add_product([Upload(jpeg(3))], sku="B-1", is_historical=True).product
    arrival = add_product([Upload(jpeg(1, size=(50, 50)))]).product
    embed_pending()
    assert {one.product.pk for one in find_matches(arrival.pk, 0).candidates} == {image.product_id, other.pk}
    flip_features(1)
    assert {one.product.pk for one in find_matches(arrival.pk, 0).candidates} == {other.pk}
    assert best_features(image.product_id) == []
    with pytest.raises(SearchVectorError, match="verify --fix"):
        find_matches(image.product_id)
    verify("--fix")
    embed_pending()
    assert {one.product.pk for one in find_matches(arrival.pk, 0).candidates} == {image.product_id, other.pk}


@pytest.mark.usefixtures("unconstrained_vectors")
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_invalid_vectors_are_computed_again(image: ProductImage, value: float) -> None:
    feature = Feature.objects.create(
        image=image, product=image.product, kind="clip", model_name="some-model", dim=8,
        color_features=np.full(8, value, "<f4").tobytes(),
    )  # fmt: skip
    triggers.install_triggers(DEFAULT_DB_ALIAS)
    assert_fixed(
        f"Features {feature.pk} (clip some-model) of image {image.pk} of product {image.product_id} are no valid"
    )
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


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL keeps its indexes itself")
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM product_text",
        "UPDATE product_text SET title = 'other'",
        "DROP TRIGGER product_text_deleted",
        "DELETE FROM product_text_data WHERE id > 10",
    ],
)
def test_outdated_text_index_is_made_again(image: ProductImage, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert_fixed("text")
    assert not trigrams.missing(DEFAULT_DB_ALIAS)
    assert not trigrams.count_outdated(DEFAULT_DB_ALIAS)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the PostgreSQL engine has no index files")
def test_damaged_index_file_is_replaced(image: ProductImage, settings: Settings, tmp_path: Path) -> None:
    settings.INDEX_DIR = tmp_path / "index"
    stamp = main_file.folder_of("legacy", LEGACY_MODEL) / "stamp.json"
    stamp.parent.mkdir(parents=True)
    stamp.write_text("{")
    assert_fixed("is not a stamp")
