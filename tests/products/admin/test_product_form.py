"""The form of a product: attributes as rows, suggested categories."""

from __future__ import annotations

from typing import Any

import pytest

from products.models import Product
from tests.helpers.rows import browser_of, make_product, save_product

pytestmark = pytest.mark.django_db


def save_rows(product: Product, *rows: tuple[str, str, str]) -> Any:
    names, values, kinds = zip(*rows, strict=True)
    parts = {"attributes-name": names, "attributes-value": values, "attributes-kind": kinds}
    return save_product(product, attributes=None, **{key: list(part) for key, part in parts.items()})


def test_attributes_are_rows_that_keep_their_types() -> None:
    product = make_product(attributes={"colour": "blue", "litres": 1.5, "sizes": ["S", "M"], "code": "007"})
    page = browser_of("uploader").get(f"/admin/products/product/{product.pk}/change/").content.decode()
    assert 'name="attributes-value" value="007"' in page
    save_rows(
        product,
        ("colour", "red", "text"), ("litres", "2", "json"), ("sizes", '["S", "M"]', "json"), ("code", "007", "text"),
        ("", "lost", "text"), ("new", "yes", "text"),
    )  # fmt: skip
    product.refresh_from_db()
    assert product.attributes == {"colour": "red", "litres": 2, "sizes": ["S", "M"], "code": "007", "new": "yes"}


def test_a_row_without_a_name_removes_the_attribute() -> None:
    product = make_product(attributes={"colour": "blue"})
    save_rows(product, ("", "blue", "text"))
    product.refresh_from_db()
    assert product.attributes == {}


def test_two_rows_of_one_name_are_refused() -> None:
    product = make_product(attributes={"colour": "blue"})
    page = save_rows(product, ("colour", "red", "text"), ("colour", "green", "text")).content.decode()
    assert "Two attributes have the same name: colour." in page
    product.refresh_from_db()
    assert product.attributes == {"colour": "blue"}


def test_categories_of_other_products_are_suggested() -> None:
    make_product(category="mugs")
    product = make_product()
    page = browser_of("uploader").get(f"/admin/products/product/{product.pk}/change/").content.decode()
    assert 'list="categories"' in page
    assert '<option value="mugs">' in page
