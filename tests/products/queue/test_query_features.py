"""Query images get the checks and features of stored images."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gpu.imaging.errors import ImageProcessingError
from products.images.cleaning import Upload, clean_image, clean_query_jpeg
from products.images.intake import add_product
from products.queue import embed
from products.queue.query_features import query_features
from tests.helpers.sample_images import as_file, drawing, truncated


def image(kind: str) -> bytes:
    return as_file(drawing(1, (1500, 1100)), kind)


@pytest.mark.django_db
@pytest.mark.usefixtures("with_clip", "media")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_features_of_a_query_equal_those_of_the_stored_image(kind: str) -> None:
    stored = add_product([Upload(image(kind))]).images[0]
    embed.embed_pending()
    found = {part.kind: part.to_blobs() for part in query_features(Upload(image(kind)), wait=0)}
    assert set(found) == {"clip", "legacy"}
    assert found == {row.kind: row.to_features().to_blobs() for row in stored.features.all()}


@pytest.mark.django_db
@pytest.mark.usefixtures("media")
def test_legacy_features_of_a_query_equal_those_of_the_stored_image() -> None:
    stored = add_product([Upload(image("JPEG"))]).images[0]
    embed.embed_pending()
    (found,) = query_features(Upload(image("JPEG")), wait=0)
    assert found.to_blobs() == stored.features.get().to_features().to_blobs()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_query_gets_the_jpeg_of_an_upload_without_thumbnail_and_hash(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = clean_image(Upload(image(kind))).jpeg

    def hashed(*_: Any) -> Any:
        raise AssertionError("a query needs no hash")

    monkeypatch.setattr(hashlib, "sha256", hashed)
    assert clean_query_jpeg(Upload(image(kind))) == expected


@pytest.mark.parametrize("data", [b"text", truncated(image("JPEG")), as_file(drawing(1, (12, 90)), "PNG")])
def test_query_is_rejected_with_the_error_of_an_upload(data: bytes) -> None:
    errors = []
    for clean in (clean_image, clean_query_jpeg):
        with pytest.raises(ImageProcessingError) as caught:
            clean(Upload(data))
        errors.append((caught.value.code, caught.value.message))
    assert errors[0] == errors[1]
