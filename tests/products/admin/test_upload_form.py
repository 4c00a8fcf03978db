"""Uploads in the admin: new products, added images, and error messages beside the fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from products.models import Product, ProductImage
from tests.helpers.files import files_in
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg, truncated

pytestmark = pytest.mark.django_db(transaction=True)

ADD = "/admin/products/product/add/"


@pytest.fixture
def browser() -> Client:
    return browser_of("uploader")


def upload(browser: Client, *files: bytes, path: str = ADD, **fields: Any) -> Any:
    images = [SimpleUploadedFile(f"image {number}.jpg", data) for number, data in enumerate(files)]
    return browser.post(path, {"images": images, **fields}, follow=True)


def test_product_with_two_images_is_added_and_embedded(browser: Client) -> None:
    response = upload(
        browser,
        jpeg(1),
        jpeg(2),
        sku="A-1",
        name="Mug",
        category="mugs",
        is_historical="on",
    )
    product = Product.objects.get()
    assert response.redirect_chain == [(f"/admin/products/product/{product.pk}/change/", 302)]
    assert (product.sku, product.name, product.category, product.is_historical) == ("A-1", "Mug", "mugs", True)
    assert [image.state for image in product.images.all()] == ["ready", "ready"]


def test_new_product_shows_its_matches_at_once(browser: Client) -> None:
    upload(browser, jpeg(1), name="the same mug", is_historical="on")
    response = upload(browser, jpeg(1, angle=4), name="arrival")
    assert "the same mug" in response.content.decode()


def test_identical_image_of_another_product_is_reported(browser: Client) -> None:
    upload(browser, jpeg(1), name="first")
    response = upload(browser, jpeg(1), name="second").content.decode()
    assert "Another product has exactly the same image:" in response
    assert "first" in response


def test_same_sku_with_the_same_image_is_the_same_product(browser: Client) -> None:
    upload(browser, jpeg(1), sku="A-1")
    assert "This product already exists." in upload(browser, jpeg(1), sku="A-1").content.decode()
    assert Product.objects.count() == 1


def test_each_bad_image_is_reported_and_nothing_is_stored(browser: Client, media: Path) -> None:
    response = upload(browser, jpeg(1), b"not an image", truncated(jpeg(2)), name="Mug")
    page = response.content.decode()
    assert response.status_code == 422
    assert "image 1.jpg: The file is not an image." in page
    assert "image 2.jpg: The file looks like JPEG, but it is damaged" in page
    assert 'value="Mug"' in page
    assert not Product.objects.exists()
    assert files_in(media) == []


def test_duplicate_sku_and_missing_image_are_reported_beside_their_fields(browser: Client) -> None:
    upload(browser, jpeg(1), sku="A-1")
    form = upload(browser, jpeg(2), sku="A-1").context["form"]
    assert "already belongs to product" in form.errors["sku"][0]
    assert upload(browser, sku="A-2").context["form"].errors["images"] == ["Choose at least one image."]
    assert Product.objects.count() == 1


def test_images_are_added_to_a_product(browser: Client) -> None:
    upload(browser, jpeg(1))
    product = Product.objects.get()
    add_images_path = f"/admin/products/product/{product.pk}/views/"
    assert "The images were added." in upload(browser, jpeg(2), jpeg(3), path=add_images_path).content.decode()
    assert "The file is not an image." in upload(browser, b"text", path=add_images_path).content.decode()
    assert [image.state for image in product.images.all()] == ["ready", "ready", "ready"]


def test_deleting_a_product_deletes_its_files(browser: Client, media: Path) -> None:
    upload(browser, jpeg(1))
    assert len(files_in(media)) == 2
    browser.post(f"/admin/products/product/{Product.objects.get().pk}/delete/", {"post": "yes"})
    assert files_in(media) == []


def test_failed_image_is_embedded_again(browser: Client) -> None:
    upload(browser, jpeg(1))
    product = Product.objects.get()
    product.images.update(state=ProductImage.State.FAILED, error_code="worker_lost")
    other = make_product("failed")
    browser.post(f"/admin/products/product/{product.pk}/embed/")
    assert product.images.get().state == "ready"
    assert other.images.get().state == "failed"


def test_embedding_one_product_again_leaves_other_pending_images_alone(browser: Client) -> None:
    upload(browser, jpeg(1))
    product = Product.objects.get()
    other = make_product()
    other.images.update(state=ProductImage.State.PENDING)
    browser.post(f"/admin/products/product/{product.pk}/embed/")
    assert product.images.get().state == "ready"
    assert (other.images.get().state, other.images.get().attempts) == ("pending", 0)


def test_selected_products_are_embedded_and_matched_again(browser: Client) -> None:
    upload(browser, jpeg(1), is_historical="on", name="catalogue")
    upload(browser, jpeg(1), name="arrival")
    arrival = Product.objects.get(name="arrival")
    arrival.matches.all().delete()
    arrival.images.update(state=ProductImage.State.FAILED)
    chosen = {"_selected_action": [arrival.pk]}
    browser.post("/admin/products/product/", chosen | {"action": "embed_again"})
    assert arrival.images.get().state == "ready"
    arrival.matches.all().delete()
    browser.post("/admin/products/product/", chosen | {"action": "match_now"})
    assert [match.candidate.name for match in arrival.matches.all()] == ["catalogue"]
