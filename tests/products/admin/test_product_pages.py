"""The admin's product list and product page, and the permissions of the roles."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from products.admin.products import ProductForm
from products.models import Feature, Product, ProductImage
from tests.helpers.rows import browser_of, make_case, make_match, make_product, save_product

pytestmark = pytest.mark.django_db

LIST = "/admin/products/product/"


def page_of(product: Product) -> str:
    return f"{LIST}{product.pk}/change/"


@pytest.mark.parametrize("count", [3, 30])
def test_product_list_needs_the_same_number_of_queries_for_any_length(
    count: int, django_assert_max_num_queries: Any
) -> None:
    for number in range(count):
        product, _ = make_case(70, 80, category=f"category {number % 4}")
        make_product("failed", "pending", category=f"category {number % 4}", name=product.name)
    browser = browser_of("manager")
    with django_assert_max_num_queries(12):
        page = browser.get(LIST)
    assert len(page.context["cl"].result_list) == min(4 * count, 50)


def test_list_shows_state_and_pending_matches_of_each_product() -> None:
    product, _ = make_case(70, 80, sku="NEW-1")
    make_product("ready", "failed", name="broken")
    page = browser_of("viewer").get(LIST).content.decode()
    assert "NEW-1" in page
    assert "2 to review" in page
    assert f"/admin/matching/match/case/{product.pk}/" in page
    assert "cm-state-failed" in page


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("is_historical__exact=1", {"old"}),
        ("category=mugs", {"old", "fresh"}),
        ("picture=failed", {"broken"}),
        ("picture=ready", {"old", "fresh"}),
        ("picture=none", {"bare"}),
        ("found=waiting", {"fresh"}),
        ("found=none", {"broken", "bare"}),
        ("q=fre", {"fresh"}),
    ],
)
def test_list_is_narrowed_by_filters_and_search(query: str, expected: set[str]) -> None:
    old = make_product(is_historical=True, name="old", category="mugs")
    fresh = make_product(name="fresh", category="mugs")
    make_product("failed", name="broken", category="lamps")
    Product.objects.create(name="bare")
    make_match(fresh, old)
    page = browser_of("viewer").get(f"{LIST}?{query}")
    assert {product.name for product in page.context["cl"].result_list} == expected


def test_markup_in_a_name_is_escaped() -> None:
    product = make_product(name='<script>alert("x")</script>', sku="<b>1</b>", attributes={"<i>": "<u>"})
    make_match(product, make_product(is_historical=True, name="<em>"))
    for path in (LIST, page_of(product), f"/admin/matching/match/case/{product.pk}/", "/admin/matching/match/"):
        page = browser_of("manager").get(path).content.decode()
        assert '<script>alert("x")' not in page
        assert "<b>1</b>" not in page
        assert "<em>" not in page


def test_product_page_shows_images_errors_features_and_matches() -> None:
    product, _ = make_case(91.5)
    failed = make_product("failed")
    image = product.images.get()
    Feature.objects.create(
        product=product, image=image, kind="clip", model_name="a model", dim=2, color_features=b"8bytes!!"
    )
    page = browser_of("viewer").get(page_of(product)).content.decode()
    assert "a model" in page
    assert "candidate 91.5" in page
    assert "The file is damaged." in browser_of("viewer").get(page_of(failed)).content.decode()


def test_fields_can_be_edited() -> None:
    product = make_product(name="before", sku="A-1")
    response = save_product(product, name="after", sku="A-2", attributes='{"colour": "blue"}')
    assert response.status_code == 302
    product.refresh_from_db()
    assert (product.name, product.sku, product.attributes) == ("after", "A-2", {"colour": "blue"})


def test_product_is_matched_when_it_stops_being_historical() -> None:
    product = make_product(is_historical=True)
    save_product(product, name="still in the catalogue", is_historical="on")
    product.refresh_from_db()
    assert product.unmatched_since is None
    save_product(product)
    product.refresh_from_db()
    assert not product.is_historical
    assert product.unmatched_since is not None


def test_saving_an_old_form_keeps_the_changes_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    product, check = make_product(name="before"), ProductForm.clean_sku

    def while_a_worker_stores_features(form: Any) -> str:
        Product.objects.filter(pk=product.pk).update(unmatched_since=timezone.now())
        return check(form)

    monkeypatch.setattr(ProductForm, "clean_sku", while_a_worker_stores_features)
    save_product(product, name="after")
    product.refresh_from_db()
    assert product.name == "after"
    assert product.unmatched_since is not None


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sku", "TAKEN", "Another product has this SKU."),
        ("attributes", "[1, 2]", "Attributes are names and values"),
        ("attributes", "{", "Enter a valid JSON."),
        ("attributes", r'{"colour": "\u0000"}', "Null characters are not allowed."),
        ("description", "x" * 20_001, "A description has at most 20000 characters."),
    ],
)
def test_invalid_fields_get_an_error_beside_the_field(field: str, value: str, reason: str) -> None:
    make_product(sku="TAKEN")
    product = make_product(name="mine", sku="MINE")
    response = save_product(product, **{field: value})
    assert reason in response.content.decode()
    product.refresh_from_db()
    assert product.sku == "MINE"


def test_deleting_an_image_keeps_the_product() -> None:
    product = make_product("ready", "failed")
    _first, second = product.images.all()
    save_product(product, **{"images-1-id": second.pk, "images-1-DELETE": "on"})
    assert [image.state for image in product.images.all()] == ["ready"]


def test_uploader_deletes_a_product_with_its_matches() -> None:
    product, matches = make_case(70)
    browser_of("uploader").post(f"{LIST}{product.pk}/delete/", {"post": "yes"})
    assert not Product.objects.filter(pk=product.pk).exists()
    assert Product.objects.filter(pk=matches[0].candidate_id).exists()


@pytest.mark.parametrize("role", ["viewer", "reviewer"])
def test_users_with_view_permission_only_cannot_change_anything(role: str) -> None:
    product = make_product("failed", name="kept")
    browser = browser_of(role)
    assert browser.get(page_of(product)).status_code == 200
    for path in ("embed", "views", "match"):
        assert browser.post(f"{LIST}{product.pk}/{path}/").status_code == 403
    for path in (f"{LIST}add/", f"{LIST}{product.pk}/delete/", page_of(product)):
        assert browser.post(path, {"name": "changed", "post": "yes"}).status_code == 403
    product.refresh_from_db()
    assert product.name == "kept"
    assert product.images.get().state == ProductImage.State.FAILED


def test_actions_reject_get_requests() -> None:
    product = make_product()
    for path in ("embed", "views", "match"):
        assert browser_of("manager").get(f"{LIST}{product.pk}/{path}/").status_code == 405
