"""POST /api/products/upload and /api/products/{id}/images: accepted files, responses and errors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image
from rest_framework.test import APIClient

from gpu.vectors import LEGACY_MODEL
from products.models import Feature, Product, ProductImage
from tests.helpers.accounts import client_of
from tests.helpers.files import files_in
from tests.helpers.sample_images import (
    FORMATS,
    as_file,
    decompression_bomb,
    drawing,
    jpeg,
    noise,
    truncated,
    with_orientation,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api() -> APIClient:
    return client_of("uploader")


def upload(api: APIClient, *files: bytes, path: str = "/api/products/upload", **fields: Any) -> Any:
    images = [SimpleUploadedFile(f"image {number}.jpg", data) for number, data in enumerate(files)]
    return api.post(path, {"image": images, **fields}, format="multipart")


def refused(response: Any, status: int, code: str) -> bool:
    """Return whether the response is a problem document with this status and code."""
    problem = response.json()
    return (
        response.status_code == status == problem["status"]
        and problem["code"] == code
        and response["Content-Type"] == "application/problem+json"
        and bool(problem["title"] and problem["detail"])
    )


def test_upload_becomes_a_product_with_features(api: APIClient) -> None:
    fields = {"sku": "M-1", "name": "Tasse ☕", "category": "mugs", "description": "blue", "is_historical": "true"}
    response = upload(api, jpeg(1), **fields)
    product = Product.objects.get()
    assert response.status_code == 201
    assert response.json() == {
        "product_id": product.pk,
        "status": "success",
        "features_extracted": True,
        "feature_type": "legacy",
        "duplicate_of": None,
    }
    assert (product.sku, product.name, product.category) == ("M-1", "Tasse ☕", "mugs")
    assert (product.description, product.is_historical) == ("blue", True)
    feature = Feature.objects.get(product=product)
    assert (feature.kind, feature.model_name, feature.image.state) == ("legacy", LEGACY_MODEL, "ready")


def test_everything_but_the_image_is_optional(api: APIClient) -> None:
    assert upload(api, jpeg(1)).status_code == 201
    assert upload(api, jpeg(2)).status_code == 201
    assert set(Product.objects.values_list("sku", "is_historical")) == {("", False)}


def test_several_images_belong_to_one_product_in_their_order(api: APIClient) -> None:
    files = [jpeg(seed) for seed in range(3)]
    assert upload(api, *files, sku="M-1").status_code == 201
    images = ProductImage.objects.order_by("position")
    assert [image.sha256 for image in images] == [hashlib.sha256(data).hexdigest() for data in files]
    assert {image.state for image in images} == {"ready"}


def test_same_image_twice_in_one_upload_is_stored_once(api: APIClient) -> None:
    assert upload(api, jpeg(1), jpeg(1)).status_code == 201
    assert ProductImage.objects.count() == 1


def test_same_sku_with_the_same_image_is_the_same_product(api: APIClient, media: Path) -> None:
    first = upload(api, jpeg(1), sku="M-1")
    stored = files_in(media)
    second = upload(api, jpeg(1), sku="M-1")
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert files_in(media) == stored


def test_same_sku_with_another_image_is_rejected(api: APIClient, media: Path) -> None:
    upload(api, jpeg(1), sku="M-1")
    stored = files_in(media)
    assert refused(upload(api, jpeg(2), sku="M-1"), 409, "sku_exists")
    assert files_in(media) == stored
    assert ProductImage.objects.count() == 1


def test_upload_names_the_product_that_has_the_identical_image(api: APIClient) -> None:
    first = upload(api, jpeg(1), sku="M-1").json()["product_id"]
    assert upload(api, jpeg(1), sku="M-2").json()["duplicate_of"] == first
    assert upload(api, jpeg(2), sku="M-3").json()["duplicate_of"] is None


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_format_can_be_uploaded(api: APIClient, kind: str) -> None:
    assert upload(api, as_file(drawing(1), kind)).status_code == 201


def test_image_is_stored_upright_and_without_metadata(api: APIClient, media: Path) -> None:
    assert upload(api, with_orientation(drawing(1, (96, 64)), orientation=6)).status_code == 201
    image = ProductImage.objects.get()
    assert (image.width, image.height) == (64, 96)
    with Image.open(media / str(image.file.name)) as stored:
        assert (stored.size, stored.format, dict(stored.getexif())) == ((64, 96), "JPEG", {})


def test_large_image_is_stored_smaller_with_a_thumbnail(api: APIClient, media: Path) -> None:
    assert upload(api, jpeg(1, (2000, 1000))).status_code == 201
    image = ProductImage.objects.get()
    assert (image.width, image.height) == (2000, 1000)
    with Image.open(media / str(image.file.name)) as derivative, Image.open(media / image.thumbnail_name) as thumbnail:
        assert (derivative.size, thumbnail.size) == ((1600, 800), (320, 160))


def test_file_name_never_becomes_a_path(api: APIClient, media: Path) -> None:
    data = SimpleUploadedFile("x.jpg", jpeg(1))
    data.name = "..\\..\\evil name.php"
    assert api.post("/api/products/upload", {"image": data}, format="multipart").status_code == 201
    assert ProductImage.objects.get().original_name == "evil name.php"
    assert all(name.endswith(".jpg") for name in files_in(media))
    assert {name.split("/")[0] for name in files_in(media)} == {"pictures", "thumbnails"}


BAD_FILES = {
    "nothing": (b"", 415, "not_an_image"),
    "text": (b"hello, I am an image", 415, "not_an_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "unsupported_format"),
    "truncated": (truncated(jpeg(1)), 422, "image_corrupt"),
    "truncated_png": (
        truncated(as_file(noise(1), "PNG")),
        422,
        "image_corrupt",
    ),
    "bomb": (decompression_bomb(), 413, "image_too_large"),
    "small": (jpeg(1, (15, 40)), 422, "image_too_small"),
    "narrow": (jpeg(1, (16, 816)), 422, "image_aspect"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_image_is_rejected_and_leaves_no_files(api: APIClient, media: Path, kind: str) -> None:
    data, status, code = BAD_FILES[kind]
    assert refused(upload(api, data, sku="M-1"), status, code)
    assert (Product.objects.count(), files_in(media)) == (0, [])


def test_one_bad_image_rejects_the_whole_upload(api: APIClient, media: Path) -> None:
    response = upload(api, jpeg(1), truncated(jpeg(2)))
    assert refused(response, 422, "image_corrupt")
    assert (Product.objects.count(), files_in(media)) == (0, [])


@pytest.mark.parametrize(("kind", "mib"), [("PNG", 20), ("JPEG", 60)])
def test_file_over_the_limit_of_its_format_is_rejected(api: APIClient, media: Path, kind: str, mib: int) -> None:
    image = as_file(drawing(1), kind)
    assert upload(api, image + bytes(mib * 2**20 - len(image))).status_code == 201
    stored = files_in(media)
    assert refused(upload(api, image + bytes((mib + 1) * 2**20 - len(image))), 413, "image_too_large")
    assert files_in(media) == stored


def test_too_large_request_is_rejected_as_a_whole(api: APIClient, settings: Any) -> None:
    settings.MAX_REQUEST_BYTES = 1000
    assert refused(upload(api, jpeg(1)), 413, "image_too_large")


def test_request_with_too_many_files_is_rejected(api: APIClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 2
    assert refused(upload(api, *[jpeg(seed) for seed in range(3)]), 400, "validation_error")


@pytest.mark.parametrize(
    "fields",
    [
        {"sku": "nul \0 byte"},
        {"name": "nul \0 byte"},
        {"description": "nul \0 byte"},
        {"sku": "s" * 201},
        {"name": "n" * 501},
        {"category": "c" * 201},
        {"description": "d" * 20_001},
        {"is_historical": "perhaps"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_invalid_field_is_rejected_by_name(api: APIClient, media: Path, fields: dict[str, str]) -> None:
    response = upload(api, jpeg(1), **fields)
    assert refused(response, 400, "validation_error")
    assert [error["field"] for error in response.json()["errors"]] == list(fields)
    assert (Product.objects.count(), files_in(media)) == (0, [])


def test_upload_without_an_image_is_rejected(api: APIClient) -> None:
    for response in (
        api.post("/api/products/upload", {"sku": "M-1"}, format="multipart"),
        api.post("/api/products/upload", {"image": "not a file"}, format="multipart"),
    ):
        assert refused(response, 400, "validation_error")
        assert [error["field"] for error in response.json()["errors"]] == ["image"]


def test_malformed_form_is_rejected(api: APIClient) -> None:
    response = api.generic("POST", "/api/products/upload", "--x\r\nnonsense", content_type="multipart/form-data")
    assert refused(response, 400, "validation_error")
    assert refused(api.post("/api/products/upload", {"sku": "M-1"}, format="json"), 415, "unsupported_media_type")


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan"])
def test_wait_outside_0_to_60_seconds_is_rejected(api: APIClient, wait: str) -> None:
    response = upload(api, jpeg(1), path=f"/api/products/upload?wait={wait}")
    assert refused(response, 400, "validation_error")
    assert Product.objects.count() == 0


def test_image_is_added_to_a_product(api: APIClient) -> None:
    product_id = upload(api, jpeg(1)).json()["product_id"]
    response = upload(api, jpeg(2), path=f"/api/products/{product_id}/images")
    assert response.status_code == 201
    added = ProductImage.objects.get(position=1)
    assert response.json() == {
        "product_id": product_id,
        "status": "success",
        "features_extracted": True,
        "feature_type": "legacy",
        "duplicate_of": None,
        "image_id": added.pk,
    }
    assert added.features.count() == 1


def test_image_that_the_product_has_is_not_added_again(api: APIClient, media: Path) -> None:
    product_id = upload(api, jpeg(1)).json()["product_id"]
    stored = files_in(media)
    response = upload(api, jpeg(1), path=f"/api/products/{product_id}/images")
    assert (response.status_code, response.json()["image_id"]) == (200, ProductImage.objects.get().pk)
    assert files_in(media) == stored


def test_bad_image_leaves_the_product_unchanged(api: APIClient, media: Path) -> None:
    path = f"/api/products/{upload(api, jpeg(1)).json()['product_id']}/images"
    stored = files_in(media)
    assert refused(upload(api, jpeg(2), decompression_bomb(), path=path), 413, "image_too_large")
    assert refused(upload(api, path=path), 400, "validation_error")
    assert (ProductImage.objects.count(), files_in(media)) == (1, stored)


def test_adding_an_image_to_a_missing_product_returns_404(api: APIClient, media: Path) -> None:
    assert refused(upload(api, jpeg(1), path="/api/products/1/images"), 404, "not_found")
    assert files_in(media) == []
