"""The API of cases: read, decide one or many, undo, and refuse what was not seen."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rest_framework.test import APIClient

from matching.models import Decision, Match
from matching.review import cases
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import make_case, make_product

pytestmark = pytest.mark.django_db


def decide(client: APIClient, product: Product, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return client.post(f"/api/cases/{product.pk}/decision", body, format="json", headers=headers)


def case(product: Product, role: str = "viewer") -> dict[str, Any]:
    body: dict[str, Any] = client_of(role).get(f"/api/cases/{product.pk}").json()
    return body


def statuses(product: Product) -> list[str]:
    return list(product.matches.order_by("-similarity_score").values_list("review_status", flat=True))


def test_case_has_its_candidates_best_first_and_a_version_that_is_the_etag() -> None:
    product, _ = make_case(70, 90, sku="N-1", category="mugs")
    response = client_of("viewer").get(f"/api/cases/{product.pk}")
    body = response.json()
    assert response["ETag"] == f'"{body["version"]}"'
    assert (body["product_id"], body["sku"], body["category"]) == (product.pk, "N-1", "mugs")
    assert (body["state"], body["decision"], body["better_candidate"]) == ("open", None, False)
    assert [candidate["similarity_score"] for candidate in body["candidates"]] == [90, 70]
    assert [candidate["evidence"] for candidate in body["candidates"]] == [[], []]
    assert client_of("viewer").get(f"/api/cases/{product.pk + 99}").json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("kind", "number", "verdicts"),
    [
        ("same", 1, ["rejected", "confirmed", "rejected"]),
        ("variant", 0, ["variant", "rejected", "rejected"]),
        ("new", None, ["rejected", "rejected", "rejected"]),
        ("unsure", None, ["unsure", "unsure", "unsure"]),
    ],
)
def test_one_decision_settles_the_whole_case_and_is_undone_as_one(
    kind: str, number: int | None, verdicts: list[str]
) -> None:
    product, matches = make_case(90, 80, 70)
    candidates = [] if number is None else [matches[number].candidate_id]
    client = client_of("reviewer")
    response = decide(
        client, product, decision=kind, candidates=candidates, differs="size", reason="label", note="the lid",
        version=case(product)["version"],
    )  # fmt: skip
    assert response.status_code == 200
    body = response.json()
    assert statuses(product) == verdicts
    assert (body["state"], body["version"]) == ("decided", case(product)["version"])
    made = body["decision"]
    assert made.pop("at")
    assert made == {
        "decision": kind, "candidates": candidates, "differs": "size", "reason": "label", "note": "the lid",
        "by": "reviewer", "automatic": False,
    }  # fmt: skip
    stored = Decision.objects.get()
    assert [row["score"] for row in stored.shown] == [90, 80, 70]
    assert client.delete(f"/api/cases/{product.pk}/decision").status_code == 204
    assert statuses(product) == ["pending"] * 3
    assert case(product)["decision"] is None
    assert [entry.history_type for entry in Decision.history.all()] == ["-", "+"]
    assert client.delete(f"/api/cases/{product.pk}/decision").json()["code"] == "not_found"


def test_several_candidates_can_be_the_same() -> None:
    product, matches = make_case(90, 80, 70)
    ids = [matches[2].candidate_id, matches[0].candidate_id]
    body = decide(client_of("reviewer"), product, decision="same", candidates=ids).json()
    assert body["decision"]["candidates"] == sorted(ids)
    assert statuses(product) == ["confirmed", "rejected", "confirmed"]


@pytest.mark.parametrize(
    "body",
    [
        {"decision": "maybe"},
        {"decision": "same"},
        {"decision": "same", "candidates": ["x"]},
        {"decision": "new", "candidates": [1]},
        {"decision": "same", "candidates": [2**62]},
        {"decision": "new", "note": "n" * 10_001},
        {"decision": "new", "note": "nul \0"},
        {},
    ],
)
def test_invalid_decision_is_refused_and_changes_nothing(body: dict[str, Any]) -> None:
    product, _ = make_case(80)
    response = decide(client_of("reviewer"), product, **body)
    assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    assert statuses(product) == ["pending"]


def test_decision_made_on_a_stale_version_is_refused_with_who_decided_what() -> None:
    product, matches = make_case(90, 80)
    seen = case(product)["version"]
    first, second = (match.candidate_id for match in matches)
    assert decide(client_of("manager"), product, decision="same", candidates=[first], version=seen).status_code == 200
    reviewer = client_of("reviewer")
    refused = decide(reviewer, product, decision="same", candidates=[second], version=seen)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (409, "stale")
    assert "manager has decided this case: the same as candidate 90" in problem["detail"]
    assert (problem["decided"]["by"], problem["decided"]["candidates"]) == ("manager", [first])
    by_etag = decide(reviewer, product, headers={"If-Match": f'"{seen}"'}, decision="new")
    assert (by_etag.status_code, by_etag.json()["code"]) == (412, "stale")
    assert statuses(product) == ["confirmed", "rejected"]
    again = decide(reviewer, product, decision="same", candidates=[second], version=problem["version"])
    assert again.json()["decision"]["by"] == "reviewer"
    assert statuses(product) == ["rejected", "confirmed"]


def test_decision_of_another_reviewer_needs_its_version_or_override() -> None:
    product, matches = make_case(90)
    reviewer = client_of("reviewer")
    decide(client_of("manager"), product, decision="new")
    refused = decide(reviewer, product, decision="same", candidates=[matches[0].candidate_id])
    assert (refused.status_code, refused.json()["code"]) == (409, "already_decided")
    path = f"/api/cases/{product.pk}/decision"
    assert reviewer.delete(path).json()["code"] == "already_decided"
    changed = decide(reviewer, product, decision="same", candidates=[matches[0].candidate_id], override=True)
    assert changed.json()["decision"]["by"] == "reviewer"
    assert client_of("manager").delete(f"{path}?override=true").status_code == 204


def test_repeated_decision_changes_nothing() -> None:
    product, _ = make_case(90)
    reviewer, seen = client_of("reviewer"), case(product)["version"]
    first = decide(reviewer, product, decision="new", version=seen).json()
    again = decide(reviewer, product, decision="new", version=seen)
    assert (again.status_code, again.json()) == (200, first)
    assert Decision.history.count() == 1


def test_candidate_that_comes_later_makes_the_version_stale() -> None:
    product, matches = make_case(90)
    seen = case(product)["version"]
    late = make_product(is_historical=True, name="late")
    Match.objects.create(
        product=product, candidate=late, similarity_score=95, feature_type="legacy", model_name="legacy-1", rank=1
    )
    refused = decide(
        client_of("reviewer"), product, decision="same", candidates=[matches[0].candidate_id], version=seen
    )
    assert refused.json()["code"] == "stale"


def test_many_cases_are_decided_in_one_call_each_on_its_own() -> None:
    (good, matches), (stale, _), (other, _) = make_case(90, 80), make_case(70), make_case(60)
    body = [
        {"product_id": good.pk, "decision": "same", "candidates": [matches[0].candidate_id]},
        {"product_id": stale.pk, "decision": "new", "version": "old"},
        {"product_id": other.pk + 99, "decision": "new"},
        {"product_id": other.pk, "decision": "same", "candidates": [1]},
        {"decision": "new"},
    ]
    response = client_of("reviewer").post("/api/cases/decisions", {"decisions": body}, format="json")
    results = response.json()["results"]
    assert [(row["status"], row.get("code")) for row in results] == [
        (200, None), (409, "stale"), (404, "not_found"), (400, "validation_error"), (400, "validation_error"),
    ]  # fmt: skip
    assert results[0]["version"] == case(good)["version"]
    assert statuses(good) == ["confirmed", "rejected"]
    assert statuses(stale) == statuses(other) == ["pending"]
    many = {"decisions": [{"product_id": good.pk, "decision": "new"}] * 501}
    assert client_of("reviewer").post("/api/cases/decisions", many, format="json").status_code == 400


def test_cases_are_listed_and_filtered() -> None:
    same, matches = make_case(90, category="mugs")
    variant, [near] = make_case(85)
    unknown, _ = make_case(60)
    waiting, _ = make_case(70)
    alone = make_product(name="without candidates")
    reviewer = client_of("reviewer")
    decide(reviewer, same, decision="same", candidates=[matches[0].candidate_id])
    decide(reviewer, variant, decision="variant", candidates=[near.candidate_id])
    decide(reviewer, unknown, decision="unsure")
    for query, expected in {
        "": [alone, waiting, unknown, variant, same],
        "state=open": [waiting],
        "state=decided": [unknown, variant, same],
        "decision=variant": [variant],
        "state=decided&category=mugs": [same],
        "reviewer=reviewer": [unknown, variant, same],
        f"candidate={near.candidate_id}": [variant],
    }.items():
        body = reviewer.get(f"/api/cases?{query}").json()
        assert [row["product_id"] for row in body["results"]] == [product.pk for product in expected], query
    assert reviewer.get("/api/cases?state=x").json()["code"] == "validation_error"


@pytest.mark.parametrize("count", [2, 12])
def test_list_needs_the_same_number_of_queries_for_any_length(count: int, django_assert_max_num_queries: Any) -> None:
    for _ in range(count):
        make_case(90, 80)
    client = client_of("viewer")
    with django_assert_max_num_queries(10):
        assert len(client.get("/api/cases").json()["results"]) == count


# --- Single matches ------------------------------------------------------------------------------


def patch(role: str, match: Match, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return client_of(role).patch(f"/api/matches/{match.pk}", body, format="json", headers=headers)


def test_confirming_a_match_decides_its_case_and_taking_it_back_opens_it() -> None:
    product, [first, second] = make_case(90, 80)
    assert patch("reviewer", first, review_status="confirmed").status_code == 200
    assert case(product)["decision"]["candidates"] == [first.candidate_id]
    assert statuses(product) == ["confirmed", "rejected"]
    patch("reviewer", second, review_status="variant")
    assert (case(product)["decision"]["decision"], statuses(product)) == ("same", ["confirmed", "variant"])
    patch("reviewer", second, review_status="rejected")
    patch("reviewer", first, review_status="pending")
    assert (case(product)["decision"], statuses(product)) == (None, ["pending", "rejected"])


def test_rejecting_the_last_candidate_decides_that_the_product_is_new() -> None:
    product, [first, second] = make_case(90, 80)
    patch("reviewer", first, review_status="rejected")
    assert (case(product)["decision"], case(product)["state"]) == (None, "open")
    patch("manager", second, review_status="rejected")
    assert (case(product)["decision"]["decision"], case(product)["decision"]["by"]) == ("new", "manager")
    patch("manager", second, review_status="pending")
    assert case(product)["decision"] is None


def test_verdict_of_another_reviewer_changes_only_with_its_etag_or_override() -> None:
    _, [match] = make_case(80)
    etag = client_of("reviewer").get(f"/api/matches/{match.pk}")["ETag"]
    patch("manager", match, review_status="confirmed")
    refused = patch("reviewer", match, review_status="rejected")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_decided")
    assert refused.json()["decided"]["by"] == "manager"
    stale = patch("reviewer", match, {"If-Match": etag}, review_status="rejected")
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    fresh = client_of("reviewer").get(f"/api/matches/{match.pk}")["ETag"]
    assert patch("reviewer", match, {"If-Match": fresh}, review_status="rejected").status_code == 200
    assert patch("manager", match, review_status="confirmed", override=True).json()["reviewer"] == "manager"


def test_product_changes_only_if_it_is_the_one_that_was_read() -> None:
    product, path = make_product(name="Mug"), "/api/products/{}"
    uploader = client_of("uploader")
    etag = uploader.get(path.format(product.pk))["ETag"]
    changed = uploader.patch(path.format(product.pk), {"name": "Cup"}, headers={"If-Match": etag})
    assert changed.status_code == 200
    for call in (uploader.patch, uploader.delete):
        stale = call(path.format(product.pk), {"name": "Pot"}, headers={"If-Match": etag})
        assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert Product.objects.get().name == "Cup"
    assert uploader.delete(path.format(product.pk), headers={"If-Match": changed["ETag"]}).status_code == 204


# --- Two reviewers -------------------------------------------------------------------------------


def test_two_reviewers_with_stale_pages_overwrite_nothing_unseen() -> None:
    chance = random.Random(14)
    products = [make_case(90, 80)[0].pk for _ in range(200)]
    clients = {role: client_of(role) for role in ("reviewer", "manager")}
    pages = {(role, pk): cases.read_case(pk).version for role in clients for pk in products}
    believed: dict[int, tuple[str, str]] = {}  # who decided what last, as the answers said
    refused = 0
    for number in range(10):
        role = ("reviewer", "manager")[number % 2]
        turn = chance.sample(products, 60)
        current = {pk: cases.read_case(pk).version for pk in turn}
        for pk in chance.sample(turn, 20):  # these pages are loaded again first
            pages[role, pk] = current[pk]
        kinds = {pk: chance.choice(["new", "unsure"]) for pk in turn}
        body = [{"product_id": pk, "decision": kinds[pk], "version": pages[role, pk]} for pk in turn]
        answers = clients[role].post("/api/cases/decisions", {"decisions": body}, format="json").json()["results"]
        for pk, answer in zip(turn, answers, strict=True):
            was_seen = pages[role, pk] == current[pk] or believed.get(pk) == (role, kinds[pk])
            assert answer["status"] == (200 if was_seen else 409)
            if was_seen:
                believed[pk] = (role, kinds[pk])
            else:
                refused += 1
                assert (answer["code"], answer["decided"]["by"]) == ("stale", believed[pk][0])
    rows = Decision.objects.values_list("product_id", "reviewer__username", "kind")
    assert {pk: (name, kind) for pk, name, kind in rows} == believed
    assert refused > 100
