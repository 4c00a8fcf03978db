"""A paused queue: uploads and queries work, and no image is claimed until it is resumed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from catalogmatch.operations.doctor import examine
from products import embedding, tasks
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import EmbeddingDay, ProductImage, QueueSwitch
from products.queue import claims, embed
from products.queue.query_features import FeaturesPendingError
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import make_product
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture
def paused() -> None:
    claims.set_paused(True, user_in("manager"))


def states() -> list[str]:
    return list(ProductImage.objects.order_by("id").values_list("state", flat=True))


@pytest.mark.usefixtures("paused")
def test_upload_to_a_paused_queue_is_accepted_and_returns_at_once(django_capture_on_commit_callbacks) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        response = client_of("uploader").post(
            "/api/products/upload?wait=30",
            {"image": SimpleUploadedFile("a.jpg", jpeg(1))},
            format="multipart",
        )
    assert (response.status_code, response.json()["status"]) == (201, "pending")
    assert states() == ["pending"]


@pytest.mark.usefixtures("paused")
def test_paused_queue_gives_no_claims_until_it_is_resumed() -> None:
    add_product([Upload(jpeg(seed)) for seed in (1, 2)])
    assert claims.claim_images(10) is None
    tasks.sweep()
    assert states() == ["pending", "pending"]
    claims.set_paused(False, user_in("manager"))
    tasks.sweep()
    assert states() == ["ready", "ready"]


@pytest.mark.usefixtures("paused")
def test_query_image_is_matched_while_the_queue_is_paused() -> None:
    file = SimpleUploadedFile("a.jpg", jpeg(1))
    response = client_of("viewer").post("/api/match", {"image": file}, format="multipart")
    assert response.status_code == 200


def test_images_claimed_before_the_pause_are_finished() -> None:
    add_product([Upload(jpeg(1))])
    batch = claims.claim_images(10)
    assert batch is not None
    claims.set_paused(True, user_in("manager"))
    assert embed.embed_batch(batch).ready == [batch.images[0].pk]


@pytest.mark.usefixtures("paused")
def test_worker_notifies_no_other_worker_while_the_queue_is_paused(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    make_product("pending")
    settings.HAS_BROKER = True
    notifications = []
    monkeypatch.setattr(tasks, "notify_workers", lambda *_: notifications.append(True))
    tasks.embed()
    tasks.sweep()
    assert notifications == []


@pytest.mark.usefixtures("paused")
def test_remaining_time_of_a_paused_queue_is_unknown_and_the_user_is_named() -> None:
    make_product("pending")
    assert client_of("viewer").get("/api/queue").json()["eta_seconds"] is None
    finding = examine()["queue"]
    assert (finding.level, "paused since" in finding.text, "by manager" in finding.text) == ("WARN", True, True)
    switch = claims.pause_switch()
    assert switch is not None
    assert str(switch.changed_by) == "manager"


@pytest.mark.usefixtures("paused")
def test_commands_say_that_the_queue_is_paused() -> None:
    make_product("pending")
    with pytest.raises(CommandError, match="paused"):
        call_command("reindex")


@pytest.mark.usefixtures("paused")
def test_missing_features_raise_a_pending_error_while_the_queue_is_paused(tmp_path) -> None:
    product = make_product()
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    with pytest.raises(FeaturesPendingError):
        embedding.get_or_extract_features(product.pk, tmp_path / "a.jpg")


def test_paused_or_just_resumed_queue_is_not_stalled(client: Client, settings: Settings) -> None:
    settings.HAS_BROKER = True
    make_product("pending")
    ProductImage.objects.update(updated_at=timezone.now() - timedelta(hours=2))
    assert client.get("/readyz").status_code == 503
    for paused in (True, False):
        claims.set_paused(paused, user_in("manager"))
        assert client.get("/readyz").status_code == 200
    QueueSwitch.objects.update(changed_at=timezone.now() - timedelta(hours=1))
    assert client.get("/readyz").status_code == 503


def test_pausing_twice_keeps_the_first_user() -> None:
    claims.set_paused(True, user_in("manager"))
    claims.set_paused(True, user_in("uploader"))
    switch = claims.pause_switch()
    assert switch is not None
    assert str(switch.changed_by) == "manager"


def test_images_are_counted_by_the_day_on_which_they_were_embedded() -> None:
    today = timezone.localdate()
    EmbeddingDay.objects.create(day=today - timedelta(days=40), pictures=7)
    add_product([Upload(jpeg(seed)) for seed in range(3)])
    embed.embed_pending(batch_size=2)
    assert claims.embedded_by_day(today - timedelta(days=29)) == {today: 3}
