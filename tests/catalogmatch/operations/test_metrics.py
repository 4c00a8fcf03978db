"""/metrics: needs a token, counts the queue, matches, and the requests of all processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from catalogmatch.operations import disk_usage
from matching.models import Match
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import ProductImage
from products.queue.embed import embed_pending
from tests.helpers.installations import manage
from tests.helpers.sample_images import jpeg

TOKEN = "the scraper's"


@pytest.fixture
def token(settings: Settings) -> str:
    settings.METRICS_TOKEN = TOKEN
    return TOKEN


def numbers() -> dict[tuple[str, str], float]:
    """Scrape /metrics. Return (name, label values) → value."""
    response = Client().get("/metrics", HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    assert response.status_code == 200
    return parsed(response.content.decode())


def parsed(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("catalogmatch_"), " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.django_db
def test_metrics_return_404_without_a_token_in_the_settings() -> None:
    assert Client().get("/metrics", HTTP_AUTHORIZATION="Bearer ").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["", "Bearer wrong", TOKEN, "Bearer é"])
def test_metrics_need_the_token(token: str, given: str) -> None:
    response = Client().get("/metrics", HTTP_AUTHORIZATION=given)
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.django_db
def test_metrics_count_images_failures_and_matches(token: str) -> None:
    historical = add_product([Upload(jpeg(1))], is_historical=True).product
    product = add_product([Upload(jpeg(2))]).product
    embed_pending(send_signal=False)  # so that no matches are looked up
    broken = add_product([Upload(jpeg(3))]).images[0]
    ProductImage.objects.filter(pk=broken.pk).update(state="failed", error_code="image_corrupt")
    add_product([Upload(jpeg(4))])
    Match.objects.create(product=product, candidate=historical, similarity_score=80, rank=1)
    found = numbers()
    assert {state: found["pictures", state] for state in ("pending", "claimed", "ready", "failed")} == {
        "pending": 1, "claimed": 0, "ready": 2, "failed": 1,
    }  # fmt: skip
    assert found["failed_pictures", "image_corrupt"] == 1
    assert found["matches", "pending"] == 1
    assert found["unmatched_products", ""] == 1
    assert found["oldest_pending_seconds", ""] >= 0
    assert found["index_vectors", "legacy legacy-1"] == 2
    assert found["disk_free_bytes", ""] > 0


@pytest.mark.django_db
def test_metrics_say_what_each_part_takes(
    token: str, settings: Settings, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_usage, "_recent", None)
    settings.QUOTA_BYTES = settings.QUOTA_BYTES | {"images": 5 * 2**20}
    add_product([Upload(jpeg(1))])
    found = numbers()
    sizes = {part: value for (name, part), value in found.items() if name == "storage_bytes"}
    assert set(sizes) == {
        "database", "images", "thumbnails", "originals", "imports", "history", "index", "jobs",
    }  # fmt: skip
    assert sizes["images"] == sum(path.stat().st_size for path in media.rglob("*.jpg")) > sizes["thumbnails"] > 0
    assert sizes["database"] > 0
    assert sizes["history"] > 0
    assert {part: value for (name, part), value in found.items() if name == "storage_quota_bytes"} == {
        "images": 5 * 2**20
    }
    assert found["disk_reserve_bytes", ""] == settings.DISK_RESERVE_BYTES


@pytest.mark.django_db
def test_sizes_are_measured_once_in_five_minutes(
    token: str, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(disk_usage, "_recent", None)
    first = disk_usage.recent()
    add_product([Upload(jpeg(1))])
    with django_assert_num_queries(0):
        assert disk_usage.recent() == first
    monkeypatch.setattr(disk_usage, "MAX_AGE_SECONDS", 0)
    assert disk_usage.recent()["images"] > first["images"]


@pytest.mark.django_db
def test_metrics_count_requests_by_route(token: str) -> None:
    before = numbers().get(("requests_total", "GET healthz 200"), 0)
    for path in ("/healthz", "/healthz", "/api/products/1", "/api/products/2"):
        Client().get(path)
    after = numbers()
    assert after["requests_total", "GET healthz 200"] == before + 2
    assert after["request_seconds_count", "GET api/products/<int:pk>"] >= 2
    assert not [labels for _, labels in after if "products/1" in labels]


@pytest.mark.django_db
def test_unknown_http_methods_are_counted_as_one(token: str) -> None:
    for method in ("FROBNICATE", "BREW"):
        Client().generic(method, "/healthz")
    assert numbers()["requests_total", "other healthz 405"] >= 2
    assert not [labels for _, labels in numbers() if "BREW" in labels]


def test_metrics_add_up_the_requests_of_several_processes(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    env = {"CATALOGMATCH_METRICS_TOKEN": TOKEN, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    assert manage(tmp_path, "migrate", "--verbosity", "0").returncode == 0
    ask = (
        "from django.test import Client; client = Client(SERVER_NAME='localhost'); client.get('/healthz');"
        f"print(client.get('/metrics', HTTP_AUTHORIZATION='Bearer ' + {TOKEN!r}).content.decode())"
    )
    responses = [manage(tmp_path, "shell", "--no-imports", "--command", ask, **env) for _ in range(2)]
    assert [response.returncode for response in responses] == [0, 0], responses
    assert [parsed(response.stdout)["requests_total", "GET healthz 200"] for response in responses] == [1, 2]
