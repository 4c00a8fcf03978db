"""/healthz returns 200 while the process runs, and /readyz while it can do its work."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from catalogmatch.operations import health
from products.models import ProductImage
from tests.helpers.rows import make_product


@pytest.fixture
def broker(settings: Settings) -> None:
    """Set a broker that does not respond. Then only workers embed, and there may be none."""
    settings.HAS_BROKER = True
    settings.CELERY_BROKER_URL = "redis://:a-secret@127.0.0.1:1/0"


def age(minutes: float, **which: str) -> None:
    """Let these images have changed last so many minutes ago."""
    ProductImage.objects.filter(**which).update(updated_at=timezone.now() - timedelta(minutes=minutes))


def readiness(client: Client) -> tuple[int, str]:
    response = client.get("/readyz")
    return response.status_code, response.json().get("reason", "")


def test_process_is_alive_without_a_database(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert client.post("/healthz").status_code == 405


@pytest.mark.django_db
def test_readiness_needs_no_authentication(client: Client) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.django_db
def test_installation_with_an_unreachable_database_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import DatabaseError

    def refuse() -> None:
        raise DatabaseError("could not connect to db.internal as catalogmatch")

    monkeypatch.setattr(health, "queue_problem", refuse)
    assert readiness(client) == (503, "the database does not respond")


@pytest.mark.django_db
def test_installation_with_a_full_disk_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MIN_FREE_DISK_BYTES", 2**62)
    status, reason = readiness(client)
    assert (status, "MiB are free" in reason) == (503, True)


@pytest.mark.django_db
@pytest.mark.usefixtures("broker")
def test_installation_with_a_stalled_queue_is_not_ready(client: Client) -> None:
    make_product("pending", "ready")
    assert readiness(client)[0] == 200
    age(10)
    assert readiness(client)[0] == 503
    age(1, state="ready")
    assert readiness(client)[0] == 200


@pytest.mark.django_db
@pytest.mark.usefixtures("broker")
def test_installation_with_an_empty_queue_is_ready(client: Client) -> None:
    make_product("ready", "failed")
    age(10_000)
    assert readiness(client)[0] == 200


@pytest.mark.django_db
@pytest.mark.usefixtures("broker")
def test_missing_redis_is_named_but_is_no_reason_to_send_no_requests(client: Client) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["reason"].startswith("Redis does not respond: ")
    make_product("pending")
    age(10)
    status, reason = readiness(client)
    assert status == 503
    assert "no worker has finished any for a while; Redis does not respond" in reason
    assert "a-secret" not in reason


@pytest.mark.django_db
def test_queue_is_not_checked_without_a_broker(client: Client) -> None:
    make_product("pending")
    age(10_000)
    assert readiness(client)[0] == 200


@pytest.mark.django_db
def test_installation_with_missing_migrations_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_is_migrated", False)  # as in a process that has just started
    MigrationRecorder.Migration.objects.filter(app="matching").delete()
    status, reason = readiness(client)
    assert (status, "migrations are missing" in reason) == (503, True)
