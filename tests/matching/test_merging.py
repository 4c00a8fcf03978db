"""Merging two products keeps everything, redirects the old id and SKU, and is undone exactly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core import serializers

from matching.models import Decision, DeletedProduct, Match
from products.models import Feature, Product, ProductImage, SameAs
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_match, make_product

pytestmark = pytest.mark.django_db


def everything() -> list[Any]:
    """Return all rows that a merge may touch, without the times of their last change."""
    rows = []
    for model in (Product, ProductImage, Match, Decision, SameAs, Feature):
        for row in json.loads(serializers.serialize("json", model._default_manager.order_by("pk"))):
            for name in ("updated_at", "unmatched_since", "file"):
                row["fields"].pop(name, None)
            if model in (SameAs, Feature):
                row.pop("pk")
            rows.append(row)
    return sorted(rows, key=str)


def merge(kept: Product, other: Product, role: str = "uploader", **body: Any) -> Any:
    return client_of(role).post(f"/api/products/{kept.pk}/merge", {"product_id": other.pk, **body}, format="json")


def unmerge(other: Product) -> Any:
    return client_of("uploader").delete(f"/api/products/{other.pk}/merge")


def decide(product: Product, kind: str, *candidates: Product) -> None:
    body = {"decision": kind, "candidates": [one.pk for one in candidates]}
    response = client_of("reviewer").post(f"/api/cases/{product.pk}/decision", body, format="json")
    assert response.status_code == 200, response.content


@pytest.fixture
def pair() -> tuple[Product, Product]:
    kept = make_product(
        "ready", "ready", is_historical=True, name="Kept", sku="K-1", brand="Acme", attributes={"colour": "blue"}
    )
    other = make_product(
        "ready", is_historical=True, name="Other", sku="O-1", gtin="4006381333931", price="3.50", currency="EUR",
        attributes={"colour": "navy", "volume": "300 ml"},
    )  # fmt: skip
    return kept, other


def test_merge_keeps_values_images_and_redirects(pair: tuple[Product, Product]) -> None:
    kept, other = pair
    preview = client_of("viewer").get(f"/api/products/{kept.pk}/merge", {"product_id": other.pk}).json()
    assert [(one["key"], one["kept"], one["other"]) for one in preview["conflicts"]] == [
        ("name", "Kept", "Other"), ("attributes:colour", "blue", "navy"),
    ]  # fmt: skip
    assert [one["key"] for one in preview["filled"]] == ["gtin", "price", "attributes:volume"]
    assert (preview["images"], preview["identical_images"]) == (1, 0)
    before = everything()

    response = merge(kept, other, take=["attributes:colour"], version=preview["version"])
    assert response.status_code == 200
    body = response.json()
    assert (body["id"], body["sku"], body["name"], body["gtin"]) == (kept.pk, "K-1", "Kept", other.gtin)
    assert (body["price"], body["currency"], body["brand"]) == ("3.5", "EUR", "Acme")
    assert body["attributes"] == {"colour": "navy", "volume": "300 ml"}
    assert len(body["images"]) == 3

    moved = client_of("viewer").get(f"/api/products/{other.pk}")
    assert (moved.status_code, moved["Location"]) == (308, f"/api/products/{kept.pk}")
    assert moved["Cache-Control"] == "no-store"
    assert moved.json()["product_id"] == kept.pk
    patched = client_of("uploader").patch(f"/api/products/{other.pk}", {"name": "x"}, format="json")
    assert patched.status_code == 308
    assert client_of("uploader").delete(f"/api/products/{other.pk}").status_code == 404
    page = browser_of("viewer").get(f"/admin/products/product/{other.pk}/change/")
    assert page["Location"] == f"/admin/products/product/{kept.pk}/change/"
    for filters in ({"sku": "O-1"}, {"search": "O-1"}):
        found = client_of("viewer").get("/api/products", filters).json()["results"]
        assert [one["id"] for one in found] == [kept.pk]
    listed = browser_of("viewer").get("/admin/products/product/", {"q": "O-1"})
    assert [one.pk for one in listed.context["cl"].result_list] == [kept.pk]

    assert unmerge(other).status_code == 204
    assert everything() == before
    assert client_of("viewer").get(f"/api/products/{other.pk}").json()["sku"] == "O-1"


def test_matches_and_decisions_follow_and_come_back(pair: tuple[Product, Product]) -> None:
    kept, other = pair
    arrivals = [make_product(name=f"arrival {number}") for number in range(4)]
    for arrival in arrivals:
        make_match(arrival, other, 90)
    for arrival in arrivals[1:]:
        make_match(arrival, kept, 80)
    decide(arrivals[0], "same", other)
    decide(arrivals[1], "same", other)  # which rejects the kept one
    decide(arrivals[2], "same", kept, other)
    duplicate = make_match(other, kept, 95)
    decide(other, "same", kept)
    before = everything()
    assert merge(kept, other).status_code == 200

    assert not Match.objects.filter(pk=duplicate.pk).exists()
    assert not DeletedProduct.objects.exists()  # nothing waits for an import of the other product
    for arrival in arrivals[:3]:
        [match] = arrival.matches.all()
        assert (match.candidate_id, match.review_status) == (kept.pk, "confirmed")
        assert arrival.decision.candidates == [kept.pk]
        assert [link.other_id for link in arrival.same_as_links.all()] == [kept.pk]
    [waiting] = arrivals[3].matches.all()
    assert (waiting.candidate_id, waiting.review_status, waiting.similarity_score) == (kept.pk, "pending", 80)
    assert not Decision.objects.filter(product=kept).exists()

    assert unmerge(other).status_code == 204
    assert everything() == before


def test_import_of_the_old_sku_updates_the_merged_product(pair: tuple[Product, Product], tmp_path: Any) -> None:
    from products.importing.importer import import_rows
    from products.importing.rows import open_source

    kept, other = pair
    merge(kept, other)
    table = tmp_path / "new.csv"
    table.write_text("sku,brand,image\nO-1,Ajax,\n")
    with open_source(table) as source:
        [result] = list(import_rows(source, update=True))
    assert result.status.name == "UPDATED", result
    kept.refresh_from_db()
    assert (kept.brand, kept.sku, Product.objects.count()) == ("Ajax", "K-1", 1)


def test_sku_of_a_merged_product_is_not_given_to_another(pair: tuple[Product, Product]) -> None:
    kept, other = pair
    merge(kept, other)
    third = make_product(name="third")
    response = client_of("uploader").patch(f"/api/products/{third.pk}", {"sku": "O-1"}, format="json")
    assert (response.status_code, response.json()["code"]) == (409, "sku_exists")
    assert client_of("uploader").patch(f"/api/products/{kept.pk}", {"sku": "O-1"}, format="json").status_code == 200


def test_what_was_changed_since_stays_and_is_said(pair: tuple[Product, Product]) -> None:
    kept, other = pair
    merge(kept, other)
    client_of("uploader").patch(f"/api/products/{kept.pk}", {"gtin": "9780306406157"}, format="json")
    response = unmerge(other)
    assert (response.status_code, response.json()) == (
        200, {"kept": ["Kept keeps its GTIN, which was changed since."]}
    )  # fmt: skip
    kept.refresh_from_db()
    assert (kept.gtin, kept.price) == ("9780306406157", None)
    assert Product.objects.get(pk=other.pk).gtin == "4006381333931"


def test_merge_of_what_changed_since_the_preview_is_refused(pair: tuple[Product, Product]) -> None:
    kept, other = pair
    version = client_of("viewer").get(f"/api/products/{kept.pk}/merge", {"product_id": other.pk}).json()["version"]
    client_of("uploader").patch(f"/api/products/{other.pk}", {"brand": "Ajax"}, format="json")
    before = everything()
    response = merge(kept, other, version=version)
    assert (response.status_code, response.json()["code"]) == (409, "stale")
    assert everything() == before


def test_product_without_a_sku_takes_that_of_the_other_until_the_undo(pair: tuple[Product, Product]) -> None:
    kept, other = make_product(name="without"), pair[1]
    before = everything()
    assert merge(kept, other).json()["sku"] == "O-1"
    kept.refresh_from_db()
    assert kept.is_historical  # because the other one was
    assert unmerge(other).status_code == 204
    assert everything() == before


def test_chain_of_merges_leads_to_the_last_and_is_undone_backwards(pair: tuple[Product, Product]) -> None:
    first, second = pair
    third = make_product(is_historical=True, name="third")
    before = everything()
    merge(first, second)
    merge(third, first)
    assert client_of("viewer").get(f"/api/products/{second.pk}")["Location"] == f"/api/products/{third.pk}"
    refused = unmerge(second)
    assert (refused.status_code, refused.json()["code"]) == (400, "validation_error")
    assert "Undo that merge first." in refused.json()["detail"]
    assert unmerge(first).status_code == 204
    assert unmerge(second).status_code == 204
    assert everything() == before


@pytest.mark.parametrize("body", [{}, {"product_id": "x"}, {"product_id": 0}, {"take": ["sku"]}, {"take": ["gtin"]}])
def test_invalid_merge_is_refused(pair: tuple[Product, Product], body: dict[str, Any]) -> None:
    kept, other = pair
    full = body if "take" not in body else {"product_id": other.pk, **body}
    response = client_of("uploader").post(f"/api/products/{kept.pk}/merge", full, format="json")
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    assert merge(kept, kept).status_code == 400
    assert Product.objects.count() == 2


@pytest.mark.parametrize("role", ["viewer", "reviewer"])
def test_only_those_who_may_delete_products_merge_them(pair: tuple[Product, Product], role: str) -> None:
    assert merge(*pair, role=role).status_code == 403


def test_unknown_products_are_not_found(pair: tuple[Product, Product]) -> None:
    kept, _other = pair
    unknown = Product(pk=kept.pk + 999)
    assert merge(kept, unknown).status_code == 404
    assert unmerge(unknown).json()["code"] == "not_found"
