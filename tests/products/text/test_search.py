"""Text search: words in any field, typing errors, names that are nearly equal, and an index that is never stale."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connection
from rest_framework.test import APIClient

from matching.service import find_and_save_matches
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product
from products.queue.embed import embed_pending
from products.text import search, trigrams
from tests.helpers import sample_images
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> APIClient:
    client = APIClient()
    client.force_authenticate(user_in("viewer"))
    return client


@pytest.fixture
def catalogue() -> None:
    make_product(is_historical=True, sku="CHOC-100", name="Dark chocolate with almonds 100 g", brand="Nørdly",
                 category="sweets", description="Made of cocoa and whole nuts.",
                 attributes={"colour": "brown", "herkunft": {"land": "Österreich"}})  # fmt: skip
    make_product(is_historical=True, sku="MILK-1", name="Whole milk 1 l", gtin="4006381333931", mpn="XR-2000/5")
    make_product(sku="CUP-7", name="Blue cup 50% larger", attributes={"supplier number": "AB12-9981"})


def found(api: APIClient, text: str) -> set[str]:
    response = api.get("/api/products", {"search": text})
    assert response.status_code == 200, response.content
    return {product["sku"] for product in response.json()["results"]}


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chocolate", {"CHOC-100"}),
        ("CHOCOL", {"CHOC-100"}),  # a part of a word, in any case
        ("almonds dark", {"CHOC-100"}),  # in any order
        ("nørdly cocoa", {"CHOC-100"}),  # words in different fields
        ("whole", {"CHOC-100", "MILK-1"}),
        ("brown", {"CHOC-100"}),  # an attribute
        ("österreich", {"CHOC-100"}),  # inside an attribute, with a letter that JSON escapes
        ("4006381333931", {"MILK-1"}),
        ("xr-2000/5", {"MILK-1"}),
        ("milk 1 l", {"MILK-1"}),
        ("chocolte", {"CHOC-100"}),  # a letter is missing
        ("choclate almnds", {"CHOC-100"}),
        ("blue cupp", {"CUP-7"}),
        ("50%", {"CUP-7"}),
        ("5_%", set()),  # no wildcards
        ("tea", set()),
        ("", {"CHOC-100", "MILK-1", "CUP-7"}),
    ],
)
def test_search_finds_words_in_all_fields_and_forgives_typing_errors(
    api: APIClient, text: str, expected: set[str]
) -> None:
    assert found(api, text) == expected


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize(
    "text",
    ['"', '""', "'", "a AND", "NEAR(", "title:milk", "milk*", "^milk", "(", "-milk", "milk OR", "{title body}: x",
     "😀😀😀", "%", "\\", "_", "--", "; DROP TABLE products", "\u202emilk", "ﷺ" * 50, "x" * 200, "milk " * 40,
     "\ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace"), "é" * 199, "İ" * 100],
)  # fmt: skip
def test_no_text_breaks_a_search(api: APIClient, text: str) -> None:
    found(api, text)
    for page in ("/admin/products/product/", "/admin/matching/match/"):
        assert browser_of("viewer").get(page, {"q": text}).status_code == 200


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("text", ["\0", "milk\0", "x" * 10_000, '"' * 10_000, "milk " * 2_000, "😀" * 10_000])
def test_text_of_any_length_or_with_null_is_searched_or_refused(api: APIClient, text: str) -> None:
    assert api.get("/api/products", {"search": text}).status_code in (200, 400)
    assert browser_of("viewer").get("/admin/products/product/", {"q": text}).status_code == 200
    search.find_same_name(text)
    search.find_numbers([text])
    assert list(search.search(Product.objects.filter(pk=0), text)) == []


@pytest.mark.usefixtures("catalogue")
def test_list_of_products_forgives_typing_errors_and_looks_into_attributes() -> None:
    for text in ("chocolte", "brown"):
        page = browser_of("viewer").get("/admin/products/product/", {"q": text})
        assert [product.sku for product in page.context["cl"].result_list] == ["CHOC-100"]


class TestIndex:
    def test_changes_of_any_kind_are_found_at_once(self, api: APIClient) -> None:
        product = make_product(sku="A", name="old name")
        Product.objects.bulk_create([Product(sku="B", name="bulk name")])
        assert found(api, "old") == {"A"}
        assert found(api, "bulk") == {"B"}
        Product.objects.filter(sku="A").update(name="changed by an update", attributes={"x": "purple"})
        assert (found(api, "old"), found(api, "purple")) == (set(), {"A"})
        with connection.cursor() as cursor:
            cursor.execute("UPDATE products SET brand = 'handmade' WHERE sku = 'B'")
        assert found(api, "handmade") == {"B"}
        product.delete()
        assert found(api, "purple") == set()
        assert trigrams.count_outdated(DEFAULT_DB_ALIAS) == 0

    def test_missing_part_is_made_again_by_migrate(self, api: APIClient) -> None:
        if connection.vendor != "sqlite":
            pytest.skip("PostgreSQL has no triggers for this")
        make_product(sku="A", name="first")
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER product_text_updated")
        Product.objects.update(name="second")
        assert found(api, "second") == set()
        assert trigrams.missing(DEFAULT_DB_ALIAS) == {"product_text_updated"}
        trigrams.install(DEFAULT_DB_ALIAS)
        assert found(api, "second") == {"A"}
        assert trigrams.missing(DEFAULT_DB_ALIAS) == set()


def add(seed: int, **fields: Any) -> Product:
    product = add_product([Upload(sample_images.jpeg(seed))], **fields).product
    embed_pending(send_signal=False)
    return product


class TestCandidates:
    """Products that other images hide: twenty others look more alike than the right one."""

    def candidates(self, arrival: Product) -> list[int]:
        return [one.product.pk for one in find_and_save_matches(arrival.pk, threshold=99.9, limit=10).candidates]

    @pytest.fixture(autouse=True)
    def others(self, db: None) -> None:
        for seed in range(12):
            add(seed, name=f"Other thing {seed}", is_historical=True)

    @pytest.mark.parametrize(
        ("known", "asked"),
        [
            ({"name": "Walnut desk lamp with brass foot"}, {"name": "Walnut desk lamp with brass foot"}),
            ({"name": "Walnut desk lamp with brass foot"}, {"name": "walnut desk-lamp, brass foot"}),
            ({"name": "Walnut desk lamp with brass foot"}, {"name": "Wallnut desk lamp with bras foot"}),
            ({"name": "Lamp", "attributes": {"part": "LMP-7781-B"}}, {"name": "Desk light", "sku": "LMP-7781-B"}),
            ({"name": "Lamp LMP-7781-B brass"}, {"name": "Light", "attributes": {"model": "LMP-7781-B"}}),
        ],
    )
    def test_equal_text_is_a_candidate_whatever_the_image_looks_like(
        self, known: dict[str, Any], asked: dict[str, Any]
    ) -> None:
        right = add(50, **known, is_historical=True)
        assert self.candidates(add(70, **asked)) == [right.pk]

    def test_other_name_is_no_candidate(self) -> None:
        add(50, name="Walnut desk lamp with brass foot", is_historical=True)
        assert self.candidates(add(70, name="Oak garden chair with cushion")) == []

    def test_name_of_very_many_products_names_none(self) -> None:
        for _number in range(7):
            make_product(is_historical=True, name="Plain shirt")
        assert search.find_same_name("Plain shirt") == []

    def test_new_products_are_no_candidates(self) -> None:
        make_product(name="Walnut desk lamp")
        assert search.find_same_name("Walnut desk lamp") == []
