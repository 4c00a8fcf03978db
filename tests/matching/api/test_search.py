"""POST /api/search: products by words, by image, or by both, with a tiny CLIP of random weights."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from pytest_django import Settings
from rest_framework.test import APIClient

from gpu import clip
from gpu.encoders import registry
from gpu.text import encoder as text_encoder
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, Product
from products.queue import embed, query_text
from tests.conftest import use_clip
from tests.gpu.text.small_models import build_text_model, image_only_model, turn_texts_to_images
from tests.helpers.accounts import client_of
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forgotten_texts() -> None:
    query_text.forget()


@pytest.fixture
def api() -> APIClient:
    return client_of("viewer")


@pytest.fixture
def model(own_clip: Path, settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """Make a small CLIP available whose texts are on the side of the images."""
    turn_texts_to_images(own_clip)
    use_clip(settings, own_clip, tmp_path / "cache")
    yield own_clip
    clip.unload()


@pytest.fixture
def catalogue(model: Path) -> list[Product]:
    """Create six historical products in two categories, embedded."""
    products = [
        add_product(
            [Upload(jpeg(n))], sku=f"P-{n}", name=f"product {n}", category=("mugs", "lamps")[n % 2], is_historical=True
        ).product
        for n in range(6)
    ]
    embed.embed_pending()
    return products


def ask(api: APIClient, **body: Any) -> Any:
    return api.post("/api/search", body, format="json")


def ask_with_form(api: APIClient, seed: int, **fields: Any) -> Any:
    image = SimpleUploadedFile("photo.jpg", jpeg(seed))
    return api.post("/api/search", {"image": image, **fields}, format="multipart")


def image_vectors() -> dict[str, np.ndarray]:
    rows = Feature.objects.filter(kind="clip").select_related("product")
    return {row.product.sku: np.asarray(row.to_features().color, np.float64) for row in rows}


def ranking(vector: np.ndarray) -> list[str]:
    """Return the SKUs by their cosine to a vector, best first."""
    cosines = {sku: float(stored @ vector) for sku, stored in image_vectors().items()}
    return sorted(cosines, key=lambda sku: -cosines[sku])


def text_vector(text: str) -> np.ndarray:
    """Return the vector of a text as sentence-transformers computes it."""
    return np.asarray(registry.get_clip_model().encode([text], normalize_embeddings=True)[0], np.float64)


def skus(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [match["sku"] for match in response.json()["matches"]]


def test_words_find_the_products_nearest_in_the_space_of_the_model(api: APIClient, catalogue: list[Product]) -> None:
    text = "a blue mug"
    response = ask(api, text=text)
    vector = text_vector(text)
    assert skus(response) == ranking(vector)
    body = response.json()
    assert set(body) == {
        "product_id",
        "feature_type",
        "model_name",
        "answer",
        "not_in_catalogue",
        "matches",
        "estimates",
    }
    assert (body["product_id"], body["feature_type"]) == (None, "clip")
    best = body["matches"][0]
    assert best["similarity_score"] == pytest.approx(
        max(0, 100 * float(image_vectors()[best["sku"]] @ vector)), abs=0.01
    )


def test_image_alone_is_searched_like_a_match(api: APIClient, catalogue: list[Product]) -> None:
    as_match = api.post("/api/match", {"image": SimpleUploadedFile("photo.jpg", jpeg(3, angle=4))}, format="multipart")
    assert ask(api, image=base64.b64encode(jpeg(3, angle=4)).decode()).json() == as_match.json()
    data_url = "data:image/jpeg;base64," + base64.b64encode(jpeg(3, angle=4)).decode()
    assert ask(api, image=data_url).json() == as_match.json()
    assert skus(as_match)[0] == "P-3"


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_both_are_blended_by_the_weight_of_the_image(api: APIClient, catalogue: list[Product], weight: float) -> None:
    text = "a blue mug"
    response = ask_with_form(api, 2, text=text, image_weight=weight)
    mean = weight * image_vectors()["P-2"] + (1 - weight) * text_vector(text)
    mean /= np.linalg.norm(mean)
    assert skus(response) == ranking(mean)
    scores = {match["sku"]: match["similarity_score"] for match in response.json()["matches"]}
    assert scores["P-2"] == pytest.approx(max(0, 100 * float(image_vectors()["P-2"] @ mean)), abs=0.05)


def test_options_narrow_the_results_of_words(api: APIClient, catalogue: list[Product]) -> None:
    every = skus(ask(api, text="mug"))
    assert skus(ask(api, text="mug", limit=2)) == every[:2]
    lamps = skus(ask(api, text="mug", category="lamps"))
    assert lamps == [sku for sku in every if sku in ("P-1", "P-3", "P-5")]
    assert skus(ask(api, text="mug", threshold=100)) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"text": "  "}, None),
        ({"text": "a" * 1001}, "text"),
        ({"text": "a\0b"}, "text"),
        ({"text": "mug", "image_weight": 1.1}, "image_weight"),
        ({"text": "mug", "threshold": -1}, "threshold"),
        ({"image": "not base64!"}, "image"),
        (["text"], None),
    ],
    ids=str,
)
def test_invalid_questions_are_rejected(api: APIClient, body: Any, field: str | None) -> None:
    response = api.post("/api/search", body, format="json")
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    if field:
        assert [error["field"] for error in response.json()["errors"]] == [field]


def test_bad_image_in_json_gets_the_code_of_an_upload(api: APIClient) -> None:
    response = ask(api, image=base64.b64encode(b"text").decode())
    assert (response.status_code, response.json()["code"]) == (415, "not_an_image")


def test_long_text_is_cut_and_the_answer_says_so(api: APIClient, catalogue: list[Product]) -> None:
    response = ask(api, text="mug " * 200)
    assert "at most 77 tokens" in response.json()["notice"]
    assert "notice" not in ask(api, text="mug").json()


def test_text_is_encoded_once_per_version(
    api: APIClient, catalogue: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(api, text="a blue mug").json()

    def encode(*_: object) -> None:
        raise AssertionError("the text is encoded again")

    monkeypatch.setattr(text_encoder.TextEncoder, "encode", encode)
    assert ask(api, text="a blue mug").json() == first


def test_model_without_text_encoder_is_named(api: APIClient, settings: Settings, tmp_path: Path) -> None:
    use_clip(settings, image_only_model(tmp_path / "eyes"), tmp_path / "cache")
    response = ask(api, text="mug")
    assert (response.status_code, response.json()["code"]) == (503, "text_unavailable")
    assert "The model eyes@" in response.json()["detail"]
    assert "has no text encoder" in response.json()["detail"]


def test_missing_weights_say_why_words_cannot_be_searched(api: APIClient) -> None:
    response = ask(api, text="mug")
    assert (response.status_code, response.json()["code"]) == (503, "text_unavailable")
    assert "clip-ViT-B-32" in response.json()["detail"]


def test_words_say_that_no_image_has_a_vector_yet(api: APIClient, model: Path) -> None:
    response = ask(api, text="mug")
    assert (response.status_code, response.json()["code"]) == (503, "text_unavailable")
    assert "no image has a vector" in response.json()["detail"]


def test_separate_text_model_answers_in_the_space_of_the_images(
    api: APIClient, catalogue: list[Product], settings: Settings, tmp_path: Path
) -> None:
    folder = build_text_model(tmp_path / "words", dim=512)
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"text_model": str(folder)}
    from sentence_transformers import SentenceTransformer

    vector = SentenceTransformer(str(folder)).encode(["blaue Tasse"], normalize_embeddings=True)[0]
    assert skus(ask(api, text="blaue Tasse")) == ranking(np.asarray(vector, np.float64))


def test_separate_text_model_of_another_length_is_refused(
    api: APIClient, catalogue: list[Product], settings: Settings, tmp_path: Path
) -> None:
    folder = build_text_model(tmp_path / "words", dim=24)
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"text_model": str(folder)}
    response = ask(api, text="mug")
    assert (response.status_code, response.json()["code"]) == (503, "text_unavailable")
    assert "vectors of 24 numbers" in response.json()["detail"]


def test_text_runs_in_onnx_where_the_images_do(api: APIClient, catalogue: list[Product], tmp_path: Path) -> None:
    in_torch = ask(api, text="a blue mug").json()
    call_command("export_onnx", verify=tmp_path)
    query_text.forget()
    in_onnx = ask(api, text="a blue mug").json()
    assert text_encoder.get_text_encoder().backend == "onnx"
    for one, other in zip(in_torch["matches"], in_onnx["matches"], strict=True):
        assert one["sku"] == other["sku"]
        assert one["similarity_score"] == pytest.approx(other["similarity_score"], abs=0.01)


def test_separate_text_model_is_exported_and_used(
    api: APIClient, catalogue: list[Product], settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = build_text_model(tmp_path / "words", dim=512)
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"text_model": str(folder)}
    in_torch = ask(api, text="blaue Tasse").json()
    call_command("export_onnx", text=True)
    assert "cosine to torch 1.0000" in capsys.readouterr().out
    call_command("export_onnx", verify=tmp_path)  # of the images
    query_text.forget()
    in_onnx = ask(api, text="blaue Tasse").json()
    assert text_encoder.get_text_encoder().backend == "onnx"
    assert [m["sku"] for m in in_onnx["matches"]] == [m["sku"] for m in in_torch["matches"]]


def test_damaged_text_model_is_reported_in_one_sentence(
    api: APIClient, catalogue: list[Product], settings: Settings, tmp_path: Path
) -> None:
    folder = build_text_model(tmp_path / "words", dim=512)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"text_model": str(folder)}
    response = ask(api, text="mug")
    assert response.json()["code"] == "text_unavailable"
    assert "damaged or truncated" in response.json()["detail"]
    shutil.rmtree(folder)
    assert "does not exist" in ask(api, text="mug").json()["detail"]
