"""Intake when a write fails, when fields are invalid, and under concurrent uploads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError

from core import files
from gpu.imaging.errors import ImageProcessingError
from products.images import intake
from products.images.cleaning import CleanImage, Upload, clean_image
from products.images.intake import IntakeResult, RejectedUploadsError, SkuExistsError
from products.models import Product, ProductImage
from products.validation import MAX_DESCRIPTION_LENGTH
from tests.helpers.files import files_in
from tests.helpers.sample_images import jpeg, truncated
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db


def uploads(*seeds: int) -> list[Upload]:
    return [Upload(jpeg(seed), f"{seed}.jpg") for seed in seeds]


def test_failing_database_leaves_no_file(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise DatabaseError("database or disk is full")

    monkeypatch.setattr(ProductImage, "save", full)
    with pytest.raises(DatabaseError):
        intake.add_product(uploads(1, 2))
    assert (Product.objects.count(), files_in(media)) == (0, [])


def test_full_disk_leaves_no_row_and_no_file(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_new = files.open_new

    def full(path: Path) -> IO[bytes]:
        if len(files_in(media)) == 3:
            raise OSError("no space left on device")
        return open_new(path)

    monkeypatch.setattr(files, "open_new", full)
    with pytest.raises(OSError, match="no space"):
        intake.add_product(uploads(1, 2))
    assert (Product.objects.count(), files_in(media)) == (0, [])


def test_deleting_an_image_deletes_its_files(media: Path, django_capture_on_commit_callbacks: object) -> None:
    images = intake.add_product(uploads(1, 2)).images
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        images[0].delete()
    assert files_in(media) == sorted([str(images[1].file.name), images[1].thumbnail_name])


def test_product_may_have_no_image() -> None:
    product = intake.add_product([], name="announced").product
    assert product.images.count() == 0
    with pytest.raises(SkuExistsError):
        intake.add_product([], sku=intake.add_product([], sku="M-1").product.sku)


def test_spaces_around_a_sku_are_ignored() -> None:
    first = intake.add_product(uploads(1), sku="M-1")
    assert intake.add_product(uploads(1), sku="  M-1 ").product == first.product


@pytest.mark.parametrize("field", ["sku", "name", "category", "description"])
def test_null_characters_are_rejected(field: str) -> None:
    with pytest.raises(ValidationError) as error:
        intake.add_product(uploads(1), **{field: "null \0"})  # type: ignore[arg-type]
    assert list(error.value.message_dict) == [field]


@pytest.mark.parametrize(
    "fields",
    [
        {"description": "x" * (MAX_DESCRIPTION_LENGTH + 1)},
        {"attributes": {"colour": "null \0"}},
        {"attributes": {"half a pair": ["\ud83d"]}},
        {"attributes": ["blue"]},
    ],
    ids=["long description", "null in an attribute", "half a character", "attributes without names"],
)
def test_invalid_fields_are_rejected_by_add_and_change(fields: dict[str, Any]) -> None:
    product = intake.add_product(uploads(1), sku="M-1").product
    with pytest.raises(ValidationError) as error:
        intake.change_product(product, fields)
    assert set(error.value.message_dict) == set(fields)
    product.refresh_from_db()
    assert (product.description, product.attributes) == ("", {})


def test_backslash_escapes_stay_text() -> None:
    attributes = {"path": r"C:\u0000", "tab": "a\tb"}
    assert intake.add_product(uploads(1), attributes=attributes).product.attributes == attributes


def test_adding_an_image_that_the_product_has_changes_nothing() -> None:
    product = intake.add_product(uploads(1)).product
    added = intake.add_images(product, uploads(2, 1, 3))
    assert (added.created, [image.position for image in added.images]) == (True, [1, 0, 2])


def test_image_of_a_deleted_product_is_not_added(media: Path) -> None:
    product = Product.objects.create()
    Product.objects.all().delete()
    with pytest.raises(Product.DoesNotExist):
        intake.add_images(product, uploads(1))
    assert files_in(media) == []


def test_one_bad_file_among_new_images_adds_none() -> None:
    product = intake.add_product(uploads(1)).product
    with pytest.raises(ImageProcessingError):
        intake.add_images(product, [*uploads(2), Upload(b"no image")])
    assert product.images.count() == 1


def test_every_rejected_upload_is_named_and_each_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def clean(upload: Upload) -> CleanImage:
        decoded.append(upload.name)
        return clean_image(upload)

    monkeypatch.setattr(intake, "clean_image", clean)
    files = [Upload(b"", "a.jpg"), Upload(jpeg(1), "b.jpg"), Upload(truncated(jpeg(2)), "c.jpg")]
    with pytest.raises(RejectedUploadsError) as error:
        intake.add_product(files)
    assert [(name, reason.code) for name, reason in error.value.rejected] == [
        ("a.jpg", "not_an_image"),
        ("c.jpg", "image_corrupt"),
    ]
    assert (error.value.code, error.value.message) == ("not_an_image", error.value.rejected[0][1].message)
    assert decoded == ["a.jpg", "b.jpg", "c.jpg"]


def test_first_error_is_reported_if_a_later_upload_cannot_even_be_read() -> None:
    def read() -> Iterator[Upload]:
        yield Upload(b"text", "a.jpg")
        raise ImageProcessingError("image_too_large", "too large")

    with pytest.raises(ImageProcessingError) as error:
        intake.add_product(read())
    assert error.value.code == "not_an_image"


@pytest.mark.django_db(transaction=True)
def test_concurrent_uploads_of_the_same_product_create_one_product(media: Path) -> None:
    def upload(seed: int) -> IntakeResult | Exception:
        try:
            return intake.add_product(uploads(seed), sku="M-1")
        except SkuExistsError as error:
            return error

    results = run_concurrently(*(partial(upload, seed) for seed in (1, 1, 1, 1, 2, 2)))
    product = Product.objects.get()
    image = product.images.get()
    added = [result for result in results if isinstance(result, IntakeResult)]
    assert sum(result.created for result in added) == 1
    assert {result.product for result in added} == {product}
    assert files_in(media) == sorted([str(image.file.name), image.thumbnail_name])


def test_same_files_are_one_product_with_skip_duplicates() -> None:
    first = intake.add_product([Upload(jpeg(1))], name="a")
    again = intake.add_product([Upload(jpeg(1))], name="b", skip_duplicates=True)
    assert (again.product, again.created, again.images) == (first.product, False, first.images)
    assert intake.add_product([Upload(jpeg(1)), Upload(jpeg(2))], skip_duplicates=True).created
    assert Product.objects.count() == 2
