"""GET /api/matches/{id}/explanation: heat maps of both images, and parts that sum to the score."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from gpu.encoders import tokens
from gpu.encoders.tokens import Patches
from gpu.explain import heat_maps
from matching import explanation, service
from matching.models import Match
from products.images.cleaning import Upload
from products.images.intake import add_images, add_product
from products.models import Feature
from products.queue import embed
from tests.conftest import use_clip
from tests.gpu.text.small_models import image_only_model
from tests.helpers.accounts import client_of
from tests.helpers.commands import run
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    explanation.forget()
    tokens.unload()


@pytest.fixture
def api() -> APIClient:
    return client_of("viewer")


def catalogue_and_arrival() -> Match:
    """Create a catalogue of five products, one with two images, and a new product. Return its best match."""
    products = [add_product([Upload(jpeg(n))], sku=f"P-{n}", is_historical=True).product for n in range(5)]
    add_images(products[3], [Upload(jpeg(3, (400, 300), angle=20))])
    arrival = add_product([Upload(jpeg(3, (400, 300), angle=18))], sku="N-3").product
    embed.embed_pending(send_signal=False)
    service.find_and_save_matches(arrival.pk, threshold=0)
    return Match.objects.get(product=arrival, rank=1)


def explain(api: APIClient, match: Match) -> Any:
    response = api.get(f"/api/matches/{match.pk}/explanation")
    assert response.status_code == 200, response.content
    return response.json()


def test_legacy_score_is_the_sum_of_colour_texture_shape_and_floor(api: APIClient) -> None:
    match = catalogue_and_arrival()
    body = explain(api, match)
    assert [part["name"] for part in body["parts"]] == ["colour", "texture", "shape", "floor"]
    assert sum(part["points"] for part in body["parts"]) == pytest.approx(match.similarity_score, abs=1e-4)
    assert body["score"] == pytest.approx(match.similarity_score, abs=1e-4)
    assert body["heat_maps"] == []
    assert "clip-ViT-B-32" in body["no_heat_maps"]
    nearest = match.candidate.images.order_by("pk").last()
    assert nearest is not None
    assert (body["candidate_image_id"], body["candidate_image_url"]) == (nearest.pk, nearest.file.url)


def test_clip_gives_heat_maps_of_both_images(api: APIClient, with_clip: Path) -> None:
    match = catalogue_and_arrival()
    body = explain(api, match)
    assert [part["points"] for part in body["parts"]] == [pytest.approx(match.similarity_score, abs=1e-4)]
    assert [found["image_id"] for found in body["heat_maps"]] == [body["image_id"], body["candidate_image_id"]]
    for found in body["heat_maps"]:
        assert (found["rows"], found["columns"], len(found["values"])) == (7, 7, 49)
        assert max(found["values"]) == 1
        assert min(found["values"]) >= 0
        left, top, width, height = found["area"]
        assert (left, top) == (pytest.approx(0.125), 0)  # the square in the middle of 400 × 300
        assert (width, height) == (pytest.approx(0.75), 1)


def test_dino_gives_heat_maps(api: APIClient, settings: Settings, tmp_path: Path) -> None:
    use_clip(settings, image_only_model(tmp_path / "eyes"), tmp_path / "cache")
    body = explain(api, catalogue_and_arrival())
    assert [(found["rows"], found["columns"]) for found in body["heat_maps"]] == [(4, 4), (4, 4)]


def test_parts_of_a_head_sum_to_its_score(api: APIClient, tmp_path: Path, with_clip: Path) -> None:
    for n in range(24):
        views = [Upload(jpeg(n, angle=angle)) for angle in (0, 7)]
        add_product(views, sku=f"H-{n}", is_historical=True)
    arrival = add_product([Upload(jpeg(5, angle=3))], sku="N-5").product
    embed.embed_pending(send_signal=False)
    while embed.embed_pending(send_signal=False):
        pass
    assert run("train_head", "--json", tmp_path / "report.json").code == 0
    head = Feature.objects.filter(kind="head").values_list("model_name", flat=True).first()
    assert head is not None
    assert run("switch_model", head).code == 0
    service.find_and_save_matches(arrival.pk, threshold=0)
    match = Match.objects.get(product=arrival, rank=1)
    assert match.feature_type == "head"
    body = explain(api, match)
    assert {part["kind"] for part in body["parts"]} >= {"clip", "legacy"}
    assert sum(part["points"] for part in body["parts"]) == pytest.approx(match.similarity_score, abs=1e-3)


def test_explanation_is_computed_once_until_the_vectors_change(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    match = catalogue_and_arrival()
    first = explain(api, match)
    computed = []
    compute = explanation.compute

    def counted(found: Match) -> explanation.Explanation:
        computed.append(found.pk)
        return compute(found)

    monkeypatch.setattr(explanation, "compute", counted)
    assert explain(api, match) == first
    assert computed == []
    add_images(match.candidate, [Upload(jpeg(3, (400, 300), angle=18))])
    embed.embed_pending(send_signal=False)
    assert explain(api, match)["score"] > first["score"]
    assert computed == [match.pk]


def test_match_whose_vectors_are_gone_says_what_to_do(api: APIClient) -> None:
    match = catalogue_and_arrival()
    Feature.objects.all().delete()
    response = api.get(f"/api/matches/{match.pk}/explanation")
    assert (response.status_code, response.json()["code"]) == (409, "features_pending")
    assert "Match the product again" in response.json()["detail"]
    assert api.get("/api/matches/999999/explanation").status_code == 404


def test_result_of_a_worker_is_checked(api: APIClient) -> None:
    found = explanation.compute(catalogue_and_arrival())
    data = asdict(found)
    assert explanation.Explanation.from_json(data) == found
    for damaged in ({}, data | {"score": "nan"}, data | {"parts": [{}]}, data | {"heat_maps": [{"rows": 1}]}):
        with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
            explanation.Explanation.from_json(damaged)


def test_heat_is_where_the_images_have_something_in_common() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 64, 32)).astype(np.float32)
    shared = rng.normal(size=(6, 32)).astype(np.float32) * 3
    vectors[0, 10:16], vectors[1, 40:46] = shared, shared
    first, second = (Patches(found, found.mean(axis=0), 8, 8) for found in vectors)
    maps = heat_maps(first, second)
    for heat, where in zip(maps, (slice(10, 16), slice(40, 46)), strict=True):
        inside = heat.ravel()[where].mean()
        assert inside > 1.5 * np.delete(heat.ravel(), np.arange(64)[where]).mean()
