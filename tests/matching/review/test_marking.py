"""A reviewer marks evidence as wrong: the probability is computed again without it, and stays so."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from matching.models import EvidenceMark
from products.models import Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import browser_of
from tests.helpers.vectors import add_product, legacy_features
from tests.matching.decided_cases import calibrate_by_hand

pytestmark = pytest.mark.django_db

GTIN, OTHER = "4006381333931", "4012345678901"


@pytest.fixture
def pair() -> tuple[Product, Product]:
    """Create an arrival whose scanned number is that of a product that looks different."""
    calibrate_by_hand(slope=1, none=1)
    looks = legacy_features(3, seed=3)
    others = [add_product(look) for look in looks]
    arrival = add_product(looks[0], historical=False)
    Product.objects.filter(pk__in=[arrival.pk, others[1].pk]).update(gtin=GTIN, updated_at=timezone.now())
    arrival.refresh_from_db()
    return arrival, others[1]


def matched(arrival: Product) -> dict[int, dict[str, Any]]:
    response = client_of("uploader").post(f"/api/products/{arrival.pk}/match", {"threshold": 0})
    return {match["product_id"]: match for match in response.json()["matches"]}


def kinds(match: dict[str, Any]) -> set[str]:
    return {item["kind"] for item in match["evidence"]}


def mark(arrival: Product, candidate: Product, kind: str = "identifier", of: str = "pair") -> Any:
    match = arrival.matches.get(candidate=candidate)
    url = f"/admin/matching/match/{match.pk}/mark/"
    return browser_of("reviewer").post(url, {"kind": kind, "of": of}, follow=True)


def test_wrong_evidence_of_a_pair_does_not_count_again(pair: tuple[Product, Product]) -> None:
    arrival, candidate = pair
    before = matched(arrival)[candidate.pk]
    assert "identifier" in kinds(before)
    page = mark(arrival, candidate)
    assert "computed again without it" in page.content.decode()
    assert "Marked as wrong by reviewer" in page.content.decode()
    stored = arrival.matches.get(candidate=candidate)
    assert stored.probability < before["probability"]
    after = matched(arrival)[candidate.pk]
    assert ("identifier" in kinds(after), after["probability"]) == (False, pytest.approx(stored.probability, abs=1e-4))
    made = EvidenceMark.history.get()
    assert (made.history_type, made.history_user, made.kind) == ("+", user_in("reviewer"), "identifier")


def test_mark_is_taken_back(pair: tuple[Product, Product]) -> None:
    arrival, candidate = pair
    before = matched(arrival)[candidate.pk]["probability"]
    mark(arrival, candidate)
    match = arrival.matches.get(candidate=candidate)
    url = f"/admin/matching/match/{match.pk}/unmark/"
    made = EvidenceMark.objects.get().pk
    for _again in range(2):
        assert browser_of("reviewer").post(url, {"mark": made}).status_code == 302
    assert not EvidenceMark.objects.exists()
    assert matched(arrival)[candidate.pk]["probability"] == pytest.approx(before, abs=1e-4)


def test_wrong_number_of_a_product_counts_nowhere_and_finds_nothing(pair: tuple[Product, Product]) -> None:
    arrival, candidate = pair
    matched(arrival)
    mark(arrival, candidate, of="product")
    assert EvidenceMark.objects.get().candidate is None
    assert all("identifier" not in kinds(match) for match in matched(arrival).values())
    found = client_of("uploader").post(f"/api/products/{arrival.pk}/match", {"threshold": 99.5}).json()["matches"]
    assert candidate.pk not in [match["product_id"] for match in found]


def test_wrong_number_of_a_candidate_counts_beside_no_arrival(pair: tuple[Product, Product]) -> None:
    arrival, candidate = pair
    other = add_product(legacy_features(1, seed=9)[0], historical=False)
    Product.objects.filter(pk=other.pk).update(gtin=GTIN)
    assert "identifier" in kinds(matched(other)[candidate.pk])
    matched(arrival)
    mark(arrival, candidate, of="candidate")
    other.refresh_from_db()
    assert other.unmatched_since is not None  # the workers match it again
    assert "identifier" not in kinds(matched(other)[candidate.pk])


@pytest.mark.parametrize(
    ("kind", "of"), [("image", "pair"), ("nothing", "pair"), ("identifier", "all"), ("image", "product")]
)
def test_what_cannot_be_marked_is_refused(pair: tuple[Product, Product], kind: str, of: str) -> None:
    arrival, candidate = pair
    matched(arrival)
    assert mark(arrival, candidate, kind, of).status_code == 200
    assert not EvidenceMark.objects.exists()


def test_viewer_cannot_mark(pair: tuple[Product, Product]) -> None:
    arrival, candidate = pair
    matched(arrival)
    url = f"/admin/matching/match/{arrival.matches.get(candidate=candidate).pk}/mark/"
    assert browser_of("viewer").post(url, {"kind": "identifier"}).status_code == 403


def test_case_shows_how_the_evidence_adds_up_and_the_quantity_that_differs(pair: tuple[Product, Product]) -> None:
    arrival, candidate = pair
    Product.objects.filter(pk=arrival.pk).update(name="Apple juice 500 ml")
    Product.objects.filter(pk=candidate.pk).update(name="Apple juice 1 l 6-pack")
    matched(arrival)
    page = browser_of("viewer").get(f"/admin/matching/match/case/{arrival.pk}/")
    item = next(one for one in page.context["candidates"] if one["candidate"] == candidate)
    assert item["bars"][0]["text"].startswith("To begin with")
    assert item["bars"][-1]["text"] == item["probability"]
    listed = {bar["kind"] for bar in item["bars"]}
    assert {"image", "identifier", "volume"} <= listed
    [row] = [row for row in item["differences"] if row.name == "Volume"]
    assert (row.product, row.candidate, row.differs) == ("500 ml", "1 l", True)
    assert "<svg" in page.content.decode()
