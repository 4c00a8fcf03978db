"""The search page: candidates for a query image, which is not stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product
from tests.helpers.files import files_in
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _catalogue() -> None:
    for seed, category in ((1, "mugs"), (2, "lamps")):
        add_product([Upload(jpeg(seed))], name=f"product {seed}", category=category, is_historical=True)


def search(data: bytes, **options: Any) -> Any:
    headers = options.pop("headers", {})
    body = {"images": SimpleUploadedFile("query.jpg", data), "threshold": 0, "limit": 10, "category": "", **options}
    return browser_of("viewer").post("/admin/ask/", body, headers=headers)


@pytest.mark.usefixtures("_catalogue")
def test_candidates_are_sorted_by_score_and_nothing_is_stored(media: Path) -> None:
    before = files_in(media)
    response = search(jpeg(2, angle=3)).context["result"]
    assert [found.product.name for found in response.candidates] == ["product 2", "product 1"]
    assert Product.objects.count() == 2
    assert files_in(media) == before


@pytest.mark.usefixtures("_catalogue")
def test_threshold_and_category_narrow_the_candidates() -> None:
    names = [found.product.name for found in search(jpeg(2), category="mugs").context["result"].candidates]
    assert names == ["product 1"]
    assert "product 1" not in search(jpeg(2), threshold=99).content.decode()


@pytest.mark.usefixtures("_catalogue")
def test_the_closest_products_are_shown_if_none_reaches_the_score() -> None:
    page = search(jpeg(3), threshold=100).content.decode()
    assert "No product of the catalogue reaches the score 100. The closest ones are shown." in page
    assert "product 1" in page


@pytest.mark.usefixtures("_catalogue")
def test_htmx_request_returns_only_the_candidates() -> None:
    page = search(jpeg(1), headers={"HX-Request": "true"}).content.decode()
    assert "product 1" in page
    assert "<html" not in page


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (b"text", {}, "The file is not an image."),
        (b"", {}, "The file is not an image."),
        (jpeg(1), {"threshold": 200}, "less than or equal to 100"),
    ],
)
def test_page_shows_why_the_image_is_rejected(data: bytes, options: dict[str, Any], reason: str) -> None:
    response = search(data, **options)
    assert response.status_code == 422
    assert reason in response.content.decode()


@pytest.mark.usefixtures("_catalogue")
def test_only_users_who_may_add_products_are_offered_to_save_the_image() -> None:
    assert b"Save as a new product" not in browser_of("viewer").get("/admin/ask/").content
    assert b"Save as a new product" in browser_of("uploader").get("/admin/ask/").content


def test_page_asks_for_words_or_an_image() -> None:
    response = browser_of("viewer").post("/admin/ask/", {"text": " ", "threshold": 0, "limit": 10, "category": ""})
    assert response.status_code == 422
    assert "Write what you look for, or choose an image." in response.content.decode()


@pytest.mark.usefixtures("_catalogue")
def test_page_says_why_words_cannot_be_searched() -> None:
    body = {"text": "mug", "threshold": 0, "limit": 10, "category": ""}
    response = browser_of("viewer").post("/admin/ask/", body)
    assert response.status_code == 422
    assert "Words cannot be searched without a CLIP model" in response.content.decode()
