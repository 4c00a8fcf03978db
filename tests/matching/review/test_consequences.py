"""What a decision does to products by the settings, and that undoing it takes exactly that back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpu.vectors import HEAD
from matching.index.confirmed import confirmed_among
from matching.learning.views import confirmed_products
from matching.models import Decision
from products import preferences
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_case

pytestmark = pytest.mark.django_db

NEW = {"gtin": "4006381333931", "attributes": {"colour": "blue"}}
CATALOGUE = {"brand": "Acme", "category": "mugs", "attributes": {"colour": "blue", "volume": "300 ml"}}
FACTS = ("category", "brand", "gtin", "mpn", "attributes", "is_historical")


def set_preferences(**values: Any) -> None:
    preferences.change({f"decisions.{name}": value for name, value in values.items()}, None)


@pytest.fixture
def pair() -> tuple[Product, Product]:
    """A new product and its best candidate, each with facts that the other lacks, and a second candidate."""
    product, matches = make_case(90, 80, **NEW)
    best = matches[0].candidate
    for name, value in CATALOGUE.items():
        setattr(best, name, value)
    best.save()
    return product, best


def facts(*products: Product) -> list[dict[str, Any]]:
    return [{name: getattr(Product.objects.get(pk=one.pk), name) for name in FACTS} for one in products]


def same_as(product: Product) -> list[int]:
    found: list[int] = client_of("viewer").get(f"/api/products/{product.pk}").json()["same_as"]
    return found


def by_the_api(product: Product, candidate: Product) -> Any:
    body = {"decision": "same", "candidates": [candidate.pk]}
    return client_of("reviewer").post(f"/api/cases/{product.pk}/decision", body, format="json")


def by_many(product: Product, candidate: Product) -> Any:
    one = {"product_id": product.pk, "decision": "same", "candidates": [candidate.pk]}
    return client_of("reviewer").post("/api/cases/decisions", {"decisions": [one]}, format="json")


def by_the_match(product: Product, candidate: Product) -> Any:
    match = product.matches.get(candidate=candidate)
    return client_of("reviewer").patch(f"/api/matches/{match.pk}", {"review_status": "confirmed"}, format="json")


def by_the_page(product: Product, candidate: Product) -> Any:
    fields = {"decision": "same", "candidate": candidate.pk}
    url = f"/admin/matching/match/case/{product.pk}/decide/"
    return browser_of("reviewer").post(url, fields, headers={"Accept": "application/json"})


def by_the_list(product: Product, candidate: Product) -> Any:
    match = product.matches.get(candidate=candidate)
    fields = {"action": "confirm", "_selected_action": [match.pk]}
    return browser_of("reviewer").post("/admin/matching/match/", fields, follow=True)


WAYS = [by_the_api, by_many, by_the_match, by_the_page, by_the_list]


@pytest.mark.parametrize("decide", WAYS)
def test_same_links_and_carries_over_and_the_undo_takes_all_of_it_back(
    pair: tuple[Product, Product], decide: Callable[[Product, Product], Any]
) -> None:
    set_preferences(fill_new="carry over", fill_catalogue="carry over")
    product, candidate = pair
    before = facts(product, candidate)
    assert decide(product, candidate).status_code == 200
    both = {"category": "mugs", "brand": "Acme", "gtin": NEW["gtin"], "mpn": ""}
    attributes = {"colour": "blue", "volume": "300 ml"}
    assert facts(product, candidate) == [
        {**both, "attributes": attributes, "is_historical": False},
        {**both, "attributes": attributes, "is_historical": True},
    ]
    assert same_as(product) == [candidate.pk]
    assert same_as(candidate) == []
    case = client_of("viewer").get(f"/api/cases/{product.pk}").json()
    assert (case["kind"], case["same_as"]) == ("new", [candidate.pk])
    listed = client_of("viewer").get("/api/products", {"same_as": candidate.pk}).json()["results"]
    assert [(one["id"], one["same_as"]) for one in listed] == [(product.pk, [candidate.pk])]

    assert client_of("reviewer").delete(f"/api/cases/{product.pk}/decision").status_code == 204
    assert facts(product, candidate) == before
    assert same_as(product) == []


def test_taking_the_confirmed_match_back_takes_the_consequences_back(pair: tuple[Product, Product]) -> None:
    set_preferences(fill_new="carry over")
    product, candidate = pair
    before = facts(product, candidate)
    by_the_match(product, candidate)
    assert facts(product, candidate) != before
    match = product.matches.get(candidate=candidate)
    client_of("reviewer").patch(f"/api/matches/{match.pk}", {"review_status": "pending"}, format="json")
    assert facts(product, candidate) == before
    assert (same_as(product), Decision.objects.count()) == ([], 0)


def test_another_decision_replaces_the_consequences(pair: tuple[Product, Product]) -> None:
    set_preferences(fill_new="carry over")
    product, candidate = pair
    before = facts(product)
    by_the_api(product, candidate)
    second = product.matches.get(similarity_score=80).candidate
    by_the_api(product, second)
    assert facts(product) == before  # the second one knows nothing
    assert same_as(product) == [second.pk]


def test_value_that_a_user_changed_since_stays_and_it_is_said(pair: tuple[Product, Product]) -> None:
    set_preferences(fill_new="carry over")
    product, candidate = pair
    by_the_api(product, candidate)
    client_of("uploader").patch(f"/api/products/{product.pk}", {"brand": "Ajax"}, format="json")
    response = client_of("reviewer").delete(f"/api/cases/{product.pk}/decision")
    assert (response.status_code, response.json()) == (
        200, {"kept": ["arrival keeps brand “Ajax”, which was changed since."]}
    )  # fmt: skip
    assert facts(product)[0] == {
        "category": "", "brand": "Ajax", "gtin": NEW["gtin"], "mpn": "", "attributes": NEW["attributes"],
        "is_historical": False,
    }  # fmt: skip


def test_nothing_is_done_with_the_settings_off(pair: tuple[Product, Product]) -> None:
    set_preferences(fill_new="no", fill_catalogue="no", link=False, views=False)
    product, candidate = pair
    before = facts(product, candidate)
    by_the_api(product, candidate)
    assert facts(product, candidate) == before
    assert same_as(product) == []
    page = browser_of("manager").get(f"/admin/products/product/{product.pk}/change/")
    assert page.context["proposals"] == []


@pytest.mark.parametrize("views", [True, False])
def test_images_count_as_views_in_search_and_learning_by_one_rule(pair: tuple[Product, Product], views: bool) -> None:
    set_preferences(views=views)
    product, candidate = pair
    by_the_api(product, candidate)
    assert list(confirmed_among(HEAD, [product.pk])) == ([product.pk] if views else [])
    assert confirmed_products() == ({product.pk: candidate.pk} if views else {})


def test_several_answers_link_all_and_carry_over_only_what_they_agree_on(pair: tuple[Product, Product]) -> None:
    set_preferences(fill_new="carry over")
    product, first = pair
    second = product.matches.get(similarity_score=80).candidate
    Product.objects.filter(pk=second.pk).update(brand="Ajax", mpn="M-1")
    body = {"decision": "same", "candidates": [first.pk, second.pk]}
    client_of("reviewer").post(f"/api/cases/{product.pk}/decision", body, format="json")
    assert same_as(product) == sorted([first.pk, second.pk])
    product.refresh_from_db()
    assert (product.brand, product.mpn, product.category) == ("", "M-1", "mugs")
    assert list(confirmed_among(HEAD, [product.pk])) == []


@pytest.mark.parametrize("kind", ["variant", "new", "unsure"])
def test_other_decisions_carry_nothing_over(pair: tuple[Product, Product], kind: str) -> None:
    set_preferences(fill_new="carry over", fill_catalogue="carry over")
    product, candidate = pair
    before = facts(product, candidate)
    body = {"decision": kind, "candidates": [candidate.pk] if kind == "variant" else []}
    assert client_of("reviewer").post(f"/api/cases/{product.pk}/decision", body, format="json").status_code == 200
    assert facts(product, candidate) == before
    assert same_as(product) == []


def test_none_of_these_makes_it_part_of_the_catalogue_until_undone(pair: tuple[Product, Product]) -> None:
    set_preferences(join=True)
    product, _candidate = pair
    client = client_of("reviewer")
    client.post(f"/api/cases/{product.pk}/decision", {"decision": "new"}, format="json")
    product.refresh_from_db()
    assert product.is_historical
    assert product.unmatched_since is not None  # open cases are compared with it
    assert client.delete(f"/api/cases/{product.pk}/decision").status_code == 204
    product.refresh_from_db()
    assert not product.is_historical


def test_proposed_values_are_accepted_with_one_click_and_undone_with_the_decision(
    pair: tuple[Product, Product],
) -> None:
    product, candidate = pair
    before = facts(product, candidate)
    by_the_api(product, candidate)
    assert facts(product, candidate) == before
    manager = browser_of("manager")
    url = f"/admin/products/product/{product.pk}"
    [proposal] = manager.get(f"{url}/change/").context["proposals"]
    assert [(fact.field, fact.name, fact.value) for fact in proposal.facts] == [
        ("category", "", "mugs"), ("brand", "", "Acme"), ("attributes", "volume", "300 ml"),
    ]  # fmt: skip
    chosen = {"case": product.pk, "fact": ["brand:", "attributes:volume", "gtin:", "nonsense"]}
    response = manager.post(f"{url}/accept/", chosen, follow=True)
    assert "2 values were carried over." in response.content.decode()
    assert [fact.field for fact in response.context["proposals"][0].facts] == ["category"]
    product.refresh_from_db()
    assert (product.brand, product.attributes) == ("Acme", CATALOGUE["attributes"])
    [of_candidate] = manager.get(f"/admin/products/product/{candidate.pk}/change/").context["proposals"]
    assert [fact.field for fact in of_candidate.facts] == ["gtin"]
    client_of("reviewer").delete(f"/api/cases/{product.pk}/decision")
    assert facts(product, candidate) == before
    assert manager.get(f"{url}/change/").context["proposals"] == []


def test_reviewer_cannot_accept_for_a_product(pair: tuple[Product, Product]) -> None:
    product, candidate = pair
    by_the_api(product, candidate)
    chosen = {"case": product.pk, "fact": ["brand:"]}
    assert browser_of("reviewer").post(f"/admin/products/product/{product.pk}/accept/", chosen).status_code == 403


def test_export_names_the_same_products(pair: tuple[Product, Product]) -> None:
    product, candidate = pair
    Product.objects.filter(pk=candidate.pk).update(sku="C-1")
    by_the_api(product, candidate)
    fields = {"action": "export_csv", "_selected_action": [product.pk]}
    response = browser_of("viewer").post("/admin/products/product/", fields)
    text = b"".join(response).decode() if response.streaming else response.content.decode()
    header, row = text.splitlines()[:2]
    assert row.split(",")[header.split(",").index("(same as)")] == "C-1"
