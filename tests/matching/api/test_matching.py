"""The matching API: queries by product and by image, the list of matches, verdicts."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from pytest_django import Settings
from rest_framework.test import APIClient
from safetensors.numpy import load_file, save_file

from gpu.encoders import registry, weights
from gpu.vectors import LEGACY_MODEL
from matching.models import Match
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product
from products.queue import embed
from tests.conftest import use_clip
from tests.helpers.accounts import client_of
from tests.helpers.files import files_in
from tests.helpers.rows import make_case
from tests.helpers.sample_images import jpeg, truncated
from tests.helpers.vectors import add_product as add_vector
from tests.helpers.vectors import embeddings, random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> APIClient:
    return client_of("uploader")


@pytest.fixture
def mug() -> Product:
    """Create a historical mug and a historical lamp, both embedded. Return the mug."""
    lamp, mug = jpeg(2), jpeg(1)
    add_product([Upload(lamp)], sku="L-1", category="lamps", is_historical=True)
    product = add_product([Upload(mug)], sku="M-1", name="Mug", category="mugs", is_historical=True).product
    embed.embed_pending()
    return product


@pytest.fixture
def arrival(mug: Product) -> Product:
    """Create a new product from another photograph of the mug, embedded and not yet matched."""
    product = add_product([Upload(jpeg(1, angle=3))], sku="N-1").product
    embed.embed_pending(send_signal=False)
    return product


def match_image(api: APIClient, data: bytes, path: str = "/api/match", **options: Any) -> Any:
    return api.post(path, {"image": SimpleUploadedFile("question.jpg", data), **options}, format="multipart")


def test_product_is_matched_and_its_matches_are_saved(api: APIClient, arrival: Product, mug: Product) -> None:
    response = api.post(f"/api/products/{arrival.pk}/match")
    assert response.status_code == 200
    body = response.json()
    assert (body["product_id"], body["feature_type"], body["model_name"]) == (arrival.pk, "legacy", LEGACY_MODEL)
    saved = Match.objects.get(product=arrival, rank=1)
    best = body["matches"][0]
    assert best == {
        "match_id": saved.pk,
        "product_id": mug.pk,
        "sku": "M-1",
        "name": "Mug",
        "category": "mugs",
        "similarity_score": best["similarity_score"],
        "rank": 1,
        "probability": None,
        "evidence": [],
        "image_url": mug.images.get().file.url,
        "review_status": "pending",
    }
    scores = [found["similarity_score"] for found in body["matches"]]
    assert scores == sorted(scores, reverse=True)
    assert all(50 <= score <= 100 for score in scores)


def test_matches_are_not_saved_if_save_is_false(api: APIClient, arrival: Product) -> None:
    response = api.post(f"/api/products/{arrival.pk}/match", {"save": False})
    assert response.json()["matches"][0]["match_id"] is None
    assert Match.objects.count() == 0


@pytest.mark.parametrize(
    ("options", "skus"),
    [
        ({"threshold": 0}, ["M-1", "L-1"]),
        ({"threshold": 0, "limit": 1}, ["M-1"]),
        ({"threshold": 0, "category": "lamps"}, ["L-1"]),
        ({"threshold": 0, "category": None}, ["M-1", "L-1"]),
        ({"threshold": 100}, []),
    ],
    ids=str,
)
def test_options_narrow_the_results(api: APIClient, arrival: Product, options: dict[str, Any], skus: list[str]) -> None:
    response = api.post(f"/api/products/{arrival.pk}/match", options)
    assert [found["sku"] for found in response.json()["matches"]] == skus


@pytest.mark.parametrize(
    "options",
    [{"threshold": 101}, {"threshold": -1}, {"limit": 0}, {"limit": 101}, {"limit": "many"}, {"save": "perhaps"}],
    ids=str,
)
def test_invalid_options_are_rejected(api: APIClient, arrival: Product, options: dict[str, Any]) -> None:
    response = api.post(f"/api/products/{arrival.pk}/match", options)
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    assert [error["field"] for error in response.json()["errors"]] == list(options)


def test_product_that_is_not_embedded_yet_gets_a_retry_response(api: APIClient) -> None:
    waiting = add_product([Upload(jpeg(1))]).product
    response = api.post(f"/api/products/{waiting.pk}/match")
    assert (response.status_code, response.json()["code"]) == (409, "features_pending")


@pytest.mark.usefixtures("unconstrained_vectors")
def test_product_with_damaged_features_gets_an_error_with_the_fix(api: APIClient, arrival: Product) -> None:
    arrival.features.update(color_features=bytes(256), shape_features=bytes(28), texture_features=bytes(256))
    response = api.post(f"/api/products/{arrival.pk}/match")
    assert (response.status_code, response.json()["code"]) == (409, "search_vector_invalid")
    call_command("verify", "--fix", stdout=StringIO())
    embed.embed_pending(send_signal=False)
    assert api.post(f"/api/products/{arrival.pk}/match").status_code == 200


def test_image_without_a_valid_clip_vector_is_compared_by_legacy_features(
    api: APIClient, mug: Product, own_clip: Path, settings: Settings, tmp_path: Path
) -> None:
    weights = own_clip / "0_CLIPModel" / "model.safetensors"
    tensors = load_file(weights)
    tensors["visual_projection.weight"][:] = np.nan
    save_file(tensors, weights)
    use_clip(settings, own_clip, tmp_path / "cache")
    response = match_image(api, jpeg(1, angle=3))
    registry.unload()
    assert (response.status_code, response.json()["feature_type"]) == (200, "legacy")
    assert [found["sku"] for found in response.json()["matches"]][:1] == ["M-1"]


def test_query_vector_of_another_length_than_the_stored_ones_is_rejected(api: APIClient, with_clip: Path) -> None:
    add_vector(*embeddings(random_vectors(1, dim=7), weights.model_id()))
    response = match_image(api, jpeg(1))
    assert (response.status_code, response.json()["code"]) == (409, "search_vector_invalid")


def test_matching_a_missing_product_returns_404(api: APIClient) -> None:
    response = api.post("/api/products/1/match")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_query_image_is_matched_and_nothing_is_stored(mug: Product, media: Path) -> None:
    stored = files_in(media)
    response = match_image(client_of("viewer"), jpeg(1, angle=3), threshold=0, limit=1)
    assert response.status_code == 200
    body = response.json()
    assert (body["product_id"], body["feature_type"]) == (None, "legacy")
    assert [(found["product_id"], found["match_id"]) for found in body["matches"]] == [(mug.pk, None)]
    assert (Product.objects.count(), Match.objects.count(), files_in(media)) == (2, 0, stored)


def test_several_query_images_are_views_of_one_product(api: APIClient, mug: Product) -> None:
    images = [SimpleUploadedFile(f"{seed}.jpg", jpeg(seed)) for seed in (2, 1)]
    response = api.post("/api/match", {"image": images, "threshold": 0}, format="multipart")
    found = {match["sku"]: match["similarity_score"] for match in response.json()["matches"]}
    assert found == {"L-1": pytest.approx(100, abs=0.01), "M-1": pytest.approx(100, abs=0.01)}


def test_one_bad_query_image_rejects_the_whole_query(api: APIClient, mug: Product) -> None:
    images = [SimpleUploadedFile("good.jpg", jpeg(1)), SimpleUploadedFile("bad.jpg", b"text")]
    response = api.post("/api/match", {"image": images}, format="multipart")
    assert (response.status_code, response.json()["code"]) == (415, "not_an_image")


def test_more_query_images_than_the_limit_are_rejected(api: APIClient) -> None:
    images = [SimpleUploadedFile(f"{number}.jpg", jpeg(1)) for number in range(11)]
    response = api.post("/api/match", {"image": images}, format="multipart")
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")


@pytest.mark.parametrize(("options", "saved"), [({}, 0), ({"save": False}, 0), ({"save": True}, 1)])
def test_matches_of_a_catalogue_product_are_saved_only_on_request(
    api: APIClient, mug: Product, options: dict[str, Any], saved: int
) -> None:
    response = api.post(f"/api/products/{mug.pk}/match", {"threshold": 0, **options}, format="json")
    assert [match["sku"] for match in response.json()["matches"]] == ["L-1"]
    assert Match.objects.count() == saved


def test_viewer_matches_a_catalogue_product_without_saving(mug: Product) -> None:
    assert client_of("viewer").post(f"/api/products/{mug.pk}/match", {}, format="json").status_code == 200


def test_query_image_is_compared_within_a_category(api: APIClient, mug: Product) -> None:
    response = match_image(api, jpeg(1), threshold=0, category="lamps")
    assert [found["sku"] for found in response.json()["matches"]] == ["L-1"]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 415, "not_an_image"),
        (truncated(jpeg(1)), 422, "image_corrupt"),
        (b"\x89PNG\r\n\x1a\n" + bytes(21 * 2**20), 413, "image_too_large"),
    ],
    ids=["nothing", "truncated", "21 MiB"],
)
def test_bad_query_image_is_rejected(api: APIClient, data: bytes, status: int, code: str) -> None:
    response = match_image(api, data)
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_query_needs_an_image_and_valid_options(api: APIClient) -> None:
    assert api.post("/api/match", {}, format="multipart").json()["code"] == "validation_error"
    assert match_image(api, jpeg(1), limit="many").json()["code"] == "validation_error"
    assert match_image(api, jpeg(1), path="/api/match?wait=soon").json()["code"] == "validation_error"


def test_matches_are_listed_and_filtered(api: APIClient) -> None:
    first, [high, low] = make_case(95, 55, category="mugs")
    _, [other] = make_case(70, category="lamps")
    Match.objects.filter(pk=low.pk).update(review_status="rejected", reviewed_at="2026-01-01T00:00Z")
    responses = {
        "": [other.pk, low.pk, high.pk],
        "review_status=pending": [other.pk, high.pk],
        "review_status=rejected": [low.pk],
        f"product={first.pk}": [low.pk, high.pk],
        f"candidate={high.candidate_id}": [high.pk],
        "min_score=60&max_score=80": [other.pk],
        "category=mugs": [low.pk, high.pk],
        "feature_type=clip": [],
    }
    for query, expected in responses.items():
        body = api.get(f"/api/matches?{query}").json()
        assert [row["id"] for row in body["results"]] == expected, query
        assert body["count"] == len(expected)
    assert api.get("/api/matches?review_status=maybe").json()["code"] == "validation_error"


def test_match_list_needs_the_same_number_of_queries_for_any_length(
    api: APIClient, django_assert_max_num_queries: Any
) -> None:
    for length in (2, 12):
        make_case(*[60.0] * (length - Match.objects.count()))
        with django_assert_max_num_queries(6):
            assert len(api.get("/api/matches").json()["results"]) == length


def test_verdict_is_given_and_undone() -> None:
    _, [match] = make_case(80)
    reviewer = client_of("reviewer")
    body = reviewer.patch(f"/api/matches/{match.pk}", {"review_status": "confirmed", "note": "the same ☕"}).json()
    assert (body["review_status"], body["note"], body["reviewer"]) == ("confirmed", "the same ☕", "reviewer")
    assert body["reviewed_at"]
    body = reviewer.patch(f"/api/matches/{match.pk}", {"note": ""}).json()
    assert (body["review_status"], body["note"]) == ("confirmed", "")
    body = reviewer.patch(f"/api/matches/{match.pk}", {"review_status": "pending"}).json()
    assert (body["review_status"], body["reviewer"], body["reviewed_at"]) == ("pending", None, None)
    assert reviewer.get(f"/api/matches/{match.pk}").json() == body


@pytest.mark.parametrize(
    "change",
    [{"review_status": "maybe"}, {"note": "n" * 10_001}, {"note": "nul \0"}],
    ids=["verdict", "long note", "null in a note"],
)
def test_invalid_verdict_is_rejected(change: dict[str, Any]) -> None:
    _, [match] = make_case(80)
    response = client_of("reviewer").patch(f"/api/matches/{match.pk}", change)
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    match.refresh_from_db()
    assert (match.review_status, match.note) == ("pending", "")


def test_verdict_on_a_missing_match_returns_404() -> None:
    response = client_of("reviewer").patch("/api/matches/1", {"review_status": "confirmed"})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
