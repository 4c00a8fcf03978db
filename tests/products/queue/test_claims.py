"""The embedding queue: claims, results, retries and lost workers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from gpu.imaging.errors import ImageProcessingError
from gpu.legacy import extract_legacy
from gpu.pipeline.run import extract_query_features
from gpu.vectors import LEGACY_MODEL
from products import embedding, tasks
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, Product, ProductImage
from products.queue import claims as queue
from products.queue import embed
from tests.helpers.sample_images import jpeg
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db


@pytest.fixture
def pending_images() -> list[ProductImage]:
    """Create a product with five pending images."""
    return add_product([Upload(jpeg(seed)) for seed in range(5)]).images


def states() -> list[tuple[str, int]]:
    return list(ProductImage.objects.order_by("id").values_list("state", "attempts"))


def claimed(limit: int = 10) -> queue.Claim:
    claim = queue.claim_images(limit)
    assert claim is not None
    return claim


def age_claims() -> None:
    """Let all leases expire, as if the workers were lost."""
    ProductImage.objects.filter(state="claimed").update(claimed_at=timezone.now() - timedelta(days=1))


def test_oldest_images_are_claimed_first_and_only_once(pending_images: list[ProductImage]) -> None:
    first, second = claimed(3), claimed(3)
    assert [image.pk for image in first.images] == [image.pk for image in pending_images[:3]]
    assert [image.pk for image in second.images] == [image.pk for image in pending_images[3:]]
    assert queue.claim_images(3) is None
    assert states() == [("claimed", 1)] * 5


def test_only_the_named_images_are_claimed(pending_images: list[ProductImage]) -> None:
    claim = queue.claim_images(10, [pending_images[4].pk, pending_images[2].pk])
    assert claim is not None
    assert [image.pk for image in claim.images] == [pending_images[2].pk, pending_images[4].pk]


def test_batch_is_embedded(pending_images: list[ProductImage]) -> None:
    outcome = embed.embed_batch(claimed())
    assert outcome.ready == [image.pk for image in pending_images]
    assert states() == [("ready", 0)] * 5
    assert set(Feature.objects.values_list("image", "model_name")) == {
        (image.pk, LEGACY_MODEL) for image in pending_images
    }
    assert set(ProductImage.objects.values_list("embedded_with", "claim_token")) == {(LEGACY_MODEL, None)}


def test_each_image_gets_its_own_features(pending_images: list[ProductImage]) -> None:
    embed.embed_pending(batch_size=2)
    for image in pending_images:
        with default_storage.open(str(image.file.name)) as file:
            expected = extract_query_features(file.read()).legacy
        assert expected is not None
        assert np.array_equal(image.features.get().to_features().color, expected.color)


def test_only_the_damaged_image_fails_after_three_attempts(pending_images: list[ProductImage], media: Path) -> None:
    (media / str(pending_images[2].file.name)).write_bytes(b"\xff\xd8\xff garbage")
    (media / str(pending_images[3].file.name)).unlink()
    outcome = embed.embed_batch(claimed())
    assert (outcome.failed, outcome.retried) == ([], [pending_images[2].pk, pending_images[3].pk])
    embed.embed_pending()
    failed = ProductImage.objects.filter(state="failed").values_list("pk", "error_code", "attempts")
    assert list(failed) == [(pending_images[2].pk, "image_corrupt", 3), (pending_images[3].pk, "file_missing", 3)]
    assert all(ProductImage.objects.filter(state="failed").values_list("error_message", flat=True))
    assert Feature.objects.count() == 3


def test_images_are_claimed_by_waiting_time(pending_images: list[ProductImage], media: Path) -> None:
    (media / str(pending_images[0].file.name)).write_bytes(b"\xff\xd8\xff garbage")
    embed.embed_batch(claimed(1))
    later = add_product([Upload(jpeg(seed)) for seed in (10, 11)]).images
    batches = [[image.pk for image in claimed(3).images] for _ in range(4)]
    # A batch has only untried images. A retried image is alone, before images that were added after its release.
    assert batches == [
        [image.pk for image in pending_images[1:4]],
        [pending_images[4].pk, later[0].pk],
        [pending_images[0].pk],
        [later[1].pk],
    ]


def test_temporary_failure_costs_no_attempt(pending_images: list[ProductImage], media: Path) -> None:
    file = media / str(pending_images[2].file.name)
    moved = file.rename(file.with_suffix(".away"))
    embed.embed_batch(claimed())
    moved.rename(file)
    embed.embed_pending()
    assert states() == [("ready", 0)] * 5
    assert set(ProductImage.objects.values_list("error_code", "error_message")) == {("", "")}


def test_only_the_image_that_the_model_fails_on_is_failed(
    pending_images: list[ProductImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = add_product([Upload(jpeg(9, (96, 77)))]).images[0]

    def failing(image: Any) -> Any:
        if image.height == 77:
            raise RuntimeError("the model broke down")
        return extract_legacy(image)

    monkeypatch.setattr("gpu.pipeline.preprocess_image.extract_legacy", failing)
    assert embed.embed_pending() == 6
    assert states() == [("ready", 0)] * 5 + [("failed", 3)]
    deadly.refresh_from_db()
    assert (deadly.error_code, deadly.error_message) == ("embedding_failed", "Embedding failed: the model broke down")


def test_interrupted_batch_is_released_without_a_counted_attempt(
    pending_images: list[ProductImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_image: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpu.pipeline.preprocess_image.extract_legacy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed.embed_pending()
    assert states() == [("pending", 0)] * 5


def test_images_of_a_lost_worker_are_claimed_after_its_lease(pending_images: list[ProductImage]) -> None:
    claimed()
    assert queue.release_stale_claims() == 0
    age_claims()
    assert queue.release_stale_claims() == 5
    assert states() == [("pending", 1)] * 5


def test_images_of_a_lost_worker_are_retried_one_by_one(pending_images: list[ProductImage]) -> None:
    for attempt in (1, 2, 3):
        sizes = []
        while (claim := queue.claim_images(10)) is not None:
            sizes.append(len(claim.images))
        assert sizes == ([5] if attempt == 1 else [1] * 5)
        age_claims()
        queue.release_stale_claims()
    assert states() == [("failed", 3)] * 5
    assert set(ProductImage.objects.values_list("error_code", flat=True)) == {"worker_lost"}


def test_late_worker_cannot_overwrite_the_result_of_another(pending_images: list[ProductImage]) -> None:
    late = claimed()
    age_claims()
    queue.release_stale_claims()
    embed.embed_pending()
    before = set(Feature.objects.values_list("pk", "updated_at"))
    outcome = embed.embed_batch(late)
    assert (outcome.ready, outcome.failed, outcome.retried) == ([], [], [])
    assert set(Feature.objects.values_list("pk", "updated_at")) == before
    assert states() == [("ready", 0)] * 5


def test_image_deleted_during_embedding_stays_deleted(pending_images: list[ProductImage]) -> None:
    other = add_product([Upload(jpeg(7))]).product
    claim = claimed()
    pending_images[0].delete()
    Product.objects.get(pk=pending_images[0].product_id).delete()
    outcome = embed.embed_batch(claim)
    assert outcome.ready == [other.images.get().pk]
    assert Feature.objects.get().product == other


def test_every_task_may_run_several_times(pending_images: list[ProductImage]) -> None:
    for _ in range(3):
        tasks.embed([image.pk for image in pending_images])
        tasks.sweep()
    assert states() == [("ready", 0)] * 5
    assert Feature.objects.count() == 5


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("failed", ["ready", "ready", "claimed", "pending", "pending"]),
        ("missing", ["ready", "pending", "claimed", "failed", "pending"]),
        ("all", ["pending", "pending", "claimed", "pending", "pending"]),
    ],
)
def test_selected_images_are_queued_again(pending_images: list[ProductImage], which: str, expected: list[str]) -> None:
    embed.embed_pending([image.pk for image in pending_images[:2]])
    pending_images[1].features.all().delete()
    queue.claim_images(1, [pending_images[2].pk])
    ProductImage.objects.filter(pk=pending_images[3].pk).update(state="failed", attempts=3, error_code="image_corrupt")
    count = queue.requeue(which)
    assert [state for state, _ in states()] == expected
    assert count == sum(before != after for before, after in zip(
        ["ready", "ready", "claimed", "failed", "pending"], expected, strict=True
    ))  # fmt: skip
    assert ProductImage.objects.filter(state="pending").exclude(attempts=0, error_code="").count() == 0


def test_unknown_choice_of_images_is_rejected() -> None:
    with pytest.raises(ValueError, match="which must be"):
        queue.requeue("some")


def test_features_stay_searchable_while_an_image_is_embedded_again(pending_images: list[ProductImage]) -> None:
    embed.embed_pending()
    queue.requeue("all")
    assert Feature.objects.count() == 5
    embed.embed_pending()
    assert Feature.objects.count() == 5


def test_stored_features_are_returned_and_missing_ones_computed(tmp_path: Path) -> None:
    product = Product.objects.create()
    path = tmp_path / "mug.jpg"
    path.write_bytes(jpeg(1))
    computed = embedding.get_or_extract_features(product.pk, path)
    assert computed.shape == (256,)
    assert computed.dtype == np.uint8
    assert product.images.get().state == "ready"
    path.unlink()
    assert np.array_equal(embedding.get_or_extract_features(product.pk, path), computed)


def test_bad_or_missing_image_raises_an_error_with_a_code(tmp_path: Path) -> None:
    product = Product.objects.create()
    path = tmp_path / "mug.jpg"
    with pytest.raises(ImageProcessingError) as missing:
        embedding.get_or_extract_features(product.pk, path)
    assert missing.value.code == "file_missing"
    path.write_bytes(b"no image")
    with pytest.raises(ImageProcessingError) as bad:
        embedding.get_or_extract_features(product.pk, path)
    assert bad.value.code == "not_an_image"
    with pytest.raises(Product.DoesNotExist):
        embedding.get_or_extract_features(product.pk + 1, path)
    assert ProductImage.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_concurrent_workers_embed_each_image_once(media: Path) -> None:
    with tasks.notifications_suspended():
        images = add_product([Upload(jpeg(seed)) for seed in range(24)]).images
    claims: list[list[int]] = []

    def work() -> None:
        while (claim := queue.claim_images(3)) is not None:
            claims.append([image.pk for image in claim.images])
            embed.embed_batch(claim)

    run_concurrently(*[work] * 4)
    assert sorted(pk for claim in claims for pk in claim) == sorted(image.pk for image in images)
    assert states() == [("ready", 0)] * 24
    assert Feature.objects.count() == 24
