"""Leases on review cases: two reviewers never get the same case, and free cases go to the next reviewer."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from matching.models import Match, ReviewLease
from matching.review import cases, decisions, leases, verdicts
from matching.review.decisions import Choice
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_case
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db

CASE = "/admin/matching/match/case/"


@pytest.fixture
def arrivals() -> list[int]:
    """Create products with one case each. Return their ids in the order of review."""
    return [make_case(80)[0].pk for _ in range(4)][::-1]


def next_case(role: str, shown: int, *released: int, query: str = "") -> int | None:
    """Return the case that is prefetched after the shown one, or None."""
    response = browser_of(role).post(f"{CASE}ahead/{query}", {"shown": shown, "left": released})
    assert response.status_code in (200, 204)
    return response.context["product"].pk if response.status_code == 200 else None


def first_case(role: str, query: str = "") -> int | None:
    """Start a review. Return its first case, or None."""
    response = browser_of(role).get(CASE + query, follow=True)
    found = re.match(rf"{CASE}(\d+)/", response.redirect_chain[-1][0])
    return int(found[1]) if found else None


def test_two_reviewers_never_get_the_same_case_shown_or_ahead(arrivals: list[int]) -> None:
    first, second, third, fourth = arrivals
    assert first_case("reviewer") == first
    assert next_case("reviewer", first) == second
    assert first_case("manager") == third
    assert next_case("manager", third) == fourth
    # The reviewer gets the skipped case again, because the manager has leases on the others.
    assert next_case("reviewer", second, first) == first
    assert next_case("manager", fourth, third) == third


@pytest.mark.django_db(transaction=True)
def test_simultaneous_reviewers_get_different_cases() -> None:
    users = [User.objects.create_user(f"person{number}") for number in range(4)]
    cases = {make_case(80)[0].pk for _ in range(12)}
    ready = threading.Barrier(len(users))

    def take_three(user: User) -> set[int | None]:
        ready.wait(30)
        taken: list[int | None] = []
        for _ in range(3):
            taken.append(leases.lease_next_case(user, after=taken[-1] if taken else None))
        return set(taken)

    taken = [product_id for own in run_concurrently(*(partial(take_three, one) for one in users)) for product_id in own]
    assert len(taken) == len(set(taken))
    assert set(taken) <= cases


def test_released_case_is_free_at_once(arrivals: list[int]) -> None:
    first, second, *_ = arrivals
    assert first_case("reviewer") == first
    assert next_case("reviewer", first) == second
    assert first_case("manager") not in (first, second)
    assert browser_of("reviewer").post(f"{CASE}release/", {"case": [first, second]}).status_code == 204
    ReviewLease.objects.filter(reviewer__username="manager").delete()
    assert first_case("manager") == first


def test_reviewer_cannot_release_the_lease_of_another(arrivals: list[int]) -> None:
    assert first_case("reviewer") == arrivals[0]
    browser_of("manager").post(f"{CASE}release/", {"case": arrivals})
    assert first_case("manager") == arrivals[1]


def test_expired_lease_is_given_to_the_next_reviewer(arrivals: list[int]) -> None:
    first = arrivals[0]
    assert first_case("reviewer") == first
    assert browser_of("reviewer").post(f"{CASE}hold/", {"case": [first]}).json() == {"held": [first]}
    ReviewLease.objects.update(taken_at=timezone.now() - leases.LEASE_DURATION)
    assert first_case("manager") == first
    assert browser_of("reviewer").post(f"{CASE}hold/", {"case": [first]}).json() == {"held": []}


def test_expired_leases_are_deleted(arrivals: list[int]) -> None:
    assert first_case("reviewer") == arrivals[0]
    ReviewLease.objects.update(taken_at=timezone.now() - leases.LEASE_DURATION)
    Match.objects.filter(product=arrivals[0]).delete()
    assert first_case("manager") == arrivals[1]
    assert ReviewLease.objects.count() == 1


def test_renewed_lease_does_not_expire(arrivals: list[int]) -> None:
    first = arrivals[0]
    assert first_case("reviewer") == first
    ReviewLease.objects.update(taken_at=timezone.now() - leases.LEASE_DURATION / 2)
    browser_of("reviewer").post(f"{CASE}hold/", {"case": [first]})
    ReviewLease.objects.update(taken_at=timezone.now() - leases.LEASE_DURATION / 2)
    assert first_case("manager") != first


def test_case_opened_from_a_list_is_leased_and_names_its_other_reviewer(arrivals: list[int]) -> None:
    assert b"is reviewing this case" not in browser_of("reviewer").get(f"{CASE}{arrivals[0]}/").content
    assert first_case("manager") == arrivals[1]
    assert b"reviewer is reviewing this case now." in browser_of("manager").get(f"{CASE}{arrivals[0]}/").content


def test_users_without_review_permission_get_no_lease(arrivals: list[int]) -> None:
    assert first_case("viewer") == arrivals[0]
    assert next_case("viewer", arrivals[0]) == arrivals[1]
    assert not ReviewLease.objects.exists()
    for path in ("hold/", "release/", f"{arrivals[0]}/undo/"):
        assert browser_of("viewer").post(CASE + path).status_code == 403


def test_last_case_has_no_next_case() -> None:
    product, _ = make_case(80)
    assert next_case("reviewer", product.pk) is None


def test_rejected_pair_is_not_shown_again() -> None:
    product, [match] = make_case(80)
    verdicts.set_verdict(match.pk, "rejected", user_in("reviewer"))
    assert first_case("reviewer") is None
    product.matches.all()[0].refresh_from_db()
    assert next_case("reviewer", make_case(80)[0].pk) is None


def selection(kind: str) -> tuple[Product, str]:
    """Create cases. Return the one that a filter selects, and the query string of that filter."""
    if kind == "score":
        return make_case(95, 40)[0], "?score=90"
    if kind == "category":
        return make_case(80, category="mugs & cups")[0], "?category=mugs+%26+cups"
    product, _ = make_case(80)
    Product.objects.filter(pk=product.pk).update(created_at=timezone.now() - timedelta(days=30))
    day = timezone.localdate() - timedelta(days=30)
    return product, f"?since={day}&until={day}"


@pytest.mark.parametrize("kind", ["score", "category", "date"])
def test_filter_applies_to_cases_and_counts_and_stays_in_the_links(kind: str) -> None:
    make_case(60)
    expected, query = selection(kind)
    make_case(60)
    page = browser_of("reviewer").get(CASE + query, follow=True)
    assert page.redirect_chain == [(f"{CASE}{expected.pk}/{query}", 302)]
    assert page.context["left"] == 1
    assert next_case("reviewer", expected.pk, query=query) is None
    match = expected.matches.order_by("-similarity_score")[0]
    decided = browser_of("reviewer").post(
        f"{CASE}{expected.pk}/decide/{query}", {"decision": "same", "candidate": match.candidate_id},
        headers={"Accept": "application/json"},
    )  # fmt: skip
    assert (decided.json()["left"], decided.json()["today"]) == (0, 1)


@pytest.mark.parametrize(
    "query", ["?score=17", "?since=yesterday", "?until=2026-13-99", "?score=90&score=", "?after=x"]
)
def test_unreadable_filter_is_ignored(query: str, arrivals: list[int]) -> None:
    assert first_case("reviewer", query) == arrivals[0]


def test_selected_category_is_shown_although_no_product_has_it() -> None:
    page = browser_of("reviewer").get(f"{CASE}{make_case(80)[0].pk}/?category=gone").content.decode()
    assert "<option selected>gone</option>" in page


def test_decision_is_undone_with_all_that_it_settled_and_the_case_returns() -> None:
    product, matches = make_case(90, 80, 70)
    verdicts.set_verdict(matches[2].pk, "rejected", user_in("manager"))
    browser = browser_of("reviewer")
    browser.post(f"{CASE}{product.pk}/decide/", {"decision": "same", "candidate": matches[0].candidate_id})
    assert statuses(product) == ["confirmed", "rejected", "rejected"]
    response = browser.post(f"{CASE}{product.pk}/undo/")
    assert response.context["product"] == product
    assert statuses(product) == ["pending", "pending", "rejected"]  # the manager's own verdict stays


def test_decision_of_another_reviewer_is_only_undone_by_one_who_saw_it() -> None:
    product, _matches = make_case(90)
    decisions.decide(product.pk, Choice("new"), user_in("manager"))
    browser = browser_of("reviewer")
    refused = browser.post(f"{CASE}{product.pk}/undo/")
    assert (refused.status_code, "manager has decided this case" in refused.content.decode()) == (409, True)
    assert statuses(product) == ["rejected"]
    version = cases.read_case(product.pk).version
    assert browser.post(f"{CASE}{product.pk}/undo/", {"version": version}).status_code == 200
    assert statuses(product) == ["pending"]


def test_undo_works_although_another_reviewer_has_the_lease() -> None:
    product, matches = make_case(90, 80)
    browser = browser_of("reviewer")
    verdicts.set_verdict(matches[0].pk, "confirmed", user_in("reviewer"))
    assert leases.renew_lease(product.pk, user_in("manager"))
    response = browser.post(f"{CASE}{product.pk}/undo/")
    assert (response.status_code, "Another reviewer" in response.content.decode()) == (409, True)
    assert statuses(product) == ["pending", "pending"]


@pytest.mark.parametrize("count", [2, 20])
def test_next_case_needs_the_same_number_of_queries_for_any_number_of_candidates(
    count: int, django_assert_max_num_queries: Any
) -> None:
    for _ in range(3):
        make_case(*range(50, 50 + count))
    shown = Match.objects.latest("product_id").product_id
    browser = browser_of("reviewer")
    with django_assert_max_num_queries(26):
        assert browser.post(f"{CASE}ahead/", {"shown": shown}).status_code == 200


def statuses(product: Product) -> list[str]:
    return list(product.matches.order_by("-similarity_score").values_list("review_status", flat=True))
