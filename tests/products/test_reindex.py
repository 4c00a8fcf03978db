"""The command reindex: pending or failed images, features of another model, or all images."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from core.files import locked
from matching.models import Match
from products.models import Feature, Product, ProductImage
from tests.helpers.commands import run
from tests.helpers.tables import write_images

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalogue(tmp_path) -> None:
    write_images(tmp_path / "in", *(f"{number}.jpg" for number in range(4)))
    assert run("import_products", tmp_path / "in", "--historical").code == 0


def states() -> list[str]:
    return sorted(ProductImage.objects.values_list("state", flat=True))


@pytest.mark.usefixtures("catalogue")
class TestReindex:
    def test_reindex_does_nothing_if_no_features_are_missing(self):
        before = list(Feature.objects.order_by("pk").values_list("pk", "updated_at"))
        ran = run("reindex")
        assert (ran.code, ran.out.splitlines()[-1]) == (0, "Matched 0 new products.")
        assert list(Feature.objects.order_by("pk").values_list("pk", "updated_at")) == before

    def test_pending_images_are_embedded(self):
        Feature.objects.all().delete()
        ProductImage.objects.update(state="pending")
        assert run("reindex", "--missing").code == 0
        assert states() == ["ready"] * 4
        assert Feature.objects.count() == 4

    def test_missing_features_are_computed(self):
        Feature.objects.filter(product__sku="2").delete()
        assert "Embedded 1 images" in run("reindex").out
        assert Feature.objects.filter(product__sku="2").count() == 1

    def test_all_images_are_embedded_again(self):
        blank = bytes(256)
        Feature.objects.update(color_features=blank)
        assert "Embedded 4 images" in run("reindex", "--all").out
        assert Feature.objects.count() == 4
        assert not Feature.objects.filter(color_features=blank).exists()

    def test_only_failed_images_are_retried(self):
        image = ProductImage.objects.get(product__sku="3")
        Feature.objects.all().delete()
        ProductImage.objects.filter(pk=image.pk).update(state="failed", attempts=3, error_code="embedding_failed")
        assert "Embedded 1 images" in run("reindex", "--failed").out
        assert list(Feature.objects.values_list("image_id", flat=True)) == [image.pk]

    def test_images_of_lost_workers_are_taken_over(self):
        Feature.objects.all().delete()
        long_ago = timezone.now() - timedelta(days=1)
        ProductImage.objects.update(state="claimed", claim_token=uuid.uuid4(), claimed_at=long_ago, attempts=1)
        assert run("reindex").code == 0
        assert states() == ["ready"] * 4

    def test_unreadable_image_is_reported_and_does_not_stop_the_command(self, media):
        lost = ProductImage.objects.get(product__sku="1")
        (media / lost.file.name).write_bytes(b"rotten")
        Feature.objects.all().delete()
        ran = run("reindex")
        assert ran.code == 3
        assert f"image {lost.pk} (1.jpg): not_an_image" in ran.err
        assert states() == ["failed", "ready", "ready", "ready"]

    def test_new_products_are_matched_by_their_new_features(self, tmp_path):
        write_images(tmp_path / "new", "0.jpg")
        (tmp_path / "new" / "0.jpg").rename(tmp_path / "new" / "newcomer.jpg")
        assert run("import_products", tmp_path / "new").code == 0
        Match.objects.all().delete()
        assert "Matched 1 new products" in run("reindex", "--all").out
        assert Match.objects.get(rank=1).candidate == Product.objects.get(sku="0")

    def test_index_option_builds_the_index_without_touching_features(self):
        before = list(Feature.objects.order_by("pk").values_list("pk", "updated_at"))
        ProductImage.objects.filter(product__sku="2").update(state="pending")
        assert run("reindex", "--index-only").code == 0
        assert states() == ["pending", "ready", "ready", "ready"]
        assert list(Feature.objects.order_by("pk").values_list("pk", "updated_at")) == before

    def test_second_reindex_at_the_same_time_says_so_and_changes_nothing(self, settings):
        with locked(settings.DATA_DIR / "reindex.lock"):
            ran = run("reindex", "--all")
            assert (ran.code, states()) == (1, ["ready"] * 4)
            assert "Another `manage.py reindex` is running" in ran.err
            assert run("reindex", "--index-only").code == 0
        assert run("reindex", "--all").code == 0

    def test_contradicting_options_are_rejected(self):
        assert run("reindex", "--all", "--failed").code == 1
