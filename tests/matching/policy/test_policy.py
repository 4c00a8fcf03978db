"""A policy decides by itself where past decisions carry its promise, marks what it decides, and is audited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone

from gpu.vectors import LEGACY_MODEL
from matching import service
from matching.models import Decision, Match, Policy, PolicyCase
from matching.policy import audit, deciding, switching
from matching.policy.evaluation import preview
from matching.policy.switching import Settings
from matching.policy.undoing import automatic_on, undo_day
from matching.review import decisions, leases
from products.models import Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.threads import run_concurrently
from tests.matching.decided_cases import calibrate_by_hand, decide, make_open_case, past_decisions, searchable

pytestmark = pytest.mark.django_db

ENOUGH = 189  # decisions without a mistake that carry 98 % with 95 % confidence


def switch_on(category: str = "", **values: Any) -> Policy:
    return switching.change(category, Settings(**{"confirms": True} | values), user_in("manager"))


def decided(product: Product) -> dict[str, Any] | None:
    response = client_of("viewer").get(f"/api/cases/{product.pk}")
    found: dict[str, Any] | None = response.json()["decision"]
    return found


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> list[Product]:
    """Create new products that look like catalogue products. The audit draws none of them."""
    monkeypatch.setattr(audit, "is_drawn", lambda _product, _share: False)
    calibrate_by_hand()
    return searchable(4)


def test_policy_confirms_what_past_decisions_carry(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    switch_on()
    response = client_of("uploader").post(f"/api/products/{arrivals[0].pk}/match").json()
    best = response["matches"][0]
    assert (best["review_status"], best["probability"] >= 0.98) == ("confirmed", True)
    made = decided(arrivals[0])
    assert made is not None
    assert (made["decision"], made["candidates"]) == ("same", [best["product_id"]])
    assert (made["automatic"], made["by"]) == (True, None)
    assert decided(arrivals[1]) is None


def test_nothing_is_decided_by_itself_before_a_manager_says_so(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    service.find_and_save_matches(arrivals[0].pk)
    assert decided(arrivals[0]) is None


def test_too_few_decisions_carry_no_promise(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH - 1)
    with pytest.raises(ValidationError) as error:
        switch_on()
    assert "189 cases without a mistake that were at least this likely. They have decided 188." in str(error.value)
    assert not Policy.objects.exists()


def test_mistakes_in_past_decisions_carry_less(arrivals: list[Product]) -> None:
    past_decisions(200, right=190)
    with pytest.raises(ValidationError, match=r"Of 200 decided cases .* 190 were right\. That carries 91\.0"):
        switch_on()
    assert switch_on(promise=0.9).is_on


def test_reviewer_who_confirms_everything_carries_nothing(arrivals: list[Product]) -> None:
    for _number in range(ENOUGH):
        decide(*make_open_case(0.99, 0.01))
    for _number in range(30):
        decide(*make_open_case(0.5, 0.5))
    seen = preview(Policy(), LEGACY_MODEL)
    assert seen.ignored == ["reviewer"]
    with pytest.raises(ValidationError):
        switch_on()


def test_category_with_one_product_cannot_be_promised_anything(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    Product.objects.filter(pk=arrivals[0].pk).update(category="Lamps")
    with pytest.raises(ValidationError, match="have not decided any case"):
        switch_on("Lamps")
    with pytest.raises(ValidationError, match="No product has the category"):
        switch_on("Lampz")


def test_own_policy_of_a_category_goes_before_that_of_all_others(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    switch_on()
    Product.objects.filter(pk=arrivals[0].pk).update(category="Lamps")
    switching.change("Lamps", Settings(), user_in("manager"))
    for arrival in arrivals[:2]:
        service.find_and_save_matches(arrival.pk)
    assert [decided(arrival) is not None for arrival in arrivals[:2]] == [False, True]


def test_new_products_are_called_new_likewise(arrivals: list[Product]) -> None:
    for number in range(ENOUGH + 20):
        product, candidate = make_open_case(0.01, 0.99) if number < ENOUGH else make_open_case(0.5, 0.5)
        decide(product, None if number < ENOUGH or number % 2 else candidate)
    switch_on(confirms=False, calls_new=True)
    Product.objects.filter(is_historical=True).exclude(matched_by__isnull=False).delete()
    calibrated = calibrate_by_hand()
    assert calibrated.adopted
    service.find_and_save_matches(arrivals[0].pk)
    made = decided(arrivals[0])
    assert made is not None
    assert (made["decision"], made["automatic"]) == ("new", True)


def test_persons_decision_stays_and_an_undone_case_is_left_to_people(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    switch_on()
    Policy.objects.update(confirms=False)
    service.find_and_save_matches(arrivals[0].pk)
    decide(arrivals[0])
    switch_on(promise=0.95)
    for arrival in arrivals[:2]:
        service.find_and_save_matches(arrival.pk)
    first = decided(arrivals[0])
    assert first is not None
    assert (first["decision"], first["by"]) == ("new", "reviewer")
    decisions.undo(arrivals[1].pk, user_in("reviewer"))
    service.find_and_save_matches(arrivals[1].pk)
    assert decided(arrivals[1]) is None
    assert arrivals[1].matches.filter(review_status="pending").exists()


def test_case_that_a_reviewer_looks_at_is_left_to_them(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    switch_on()
    assert leases.renew_lease(arrivals[0].pk, user_in("reviewer"))
    service.find_and_save_matches(arrivals[0].pk)
    assert decided(arrivals[0]) is None


def test_reviewer_who_saw_the_case_before_the_policy_decided_goes_first(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    service.find_and_save_matches(arrivals[0].pk)
    version = client_of("reviewer").get(f"/api/cases/{arrivals[0].pk}").json()["version"]
    switch_on()
    service.find_and_save_matches(arrivals[0].pk)
    automatic = decided(arrivals[0])
    assert automatic is not None
    assert automatic["automatic"]
    url = f"/api/cases/{arrivals[0].pk}/decision"
    body = {"decision": "same", "candidates": automatic["candidates"], "version": version}
    assert client_of("reviewer").post(url, body, format="json").status_code == 200
    made = decided(arrivals[0])
    assert made is not None
    assert (made["automatic"], made["by"]) == (False, "reviewer")
    assert arrivals[0].matches.get(review_status="confirmed").reviewer == user_in("reviewer")
    stale = client_of("manager").post(url, body | {"decision": "new", "candidates": []}, format="json")
    assert stale.status_code == 409


def test_all_automatic_decisions_of_a_day_are_undone_at_once(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    switch_on()
    for arrival in arrivals:
        service.find_and_save_matches(arrival.pk)
    decisions.decide(arrivals[0].pk, decisions.Choice("new"), user_in("reviewer"))
    today = timezone.localdate()
    people = Decision.objects.filter(automatic=False).count()
    assert automatic_on(today).count() == 3
    assert undo_day(today, user_in("manager")) == 3
    assert Decision.objects.count() == people
    assert set(arrivals[1].matches.values_list("review_status", flat=True)) == {"pending"}
    history = Decision.history.filter(product_id=arrivals[1].pk).order_by("pk")
    assert [(row.history_type, row.history_change_reason) for row in history] == [("+", "policy"), ("-", "command")]
    assert history.last().history_user == user_in("manager")


def test_share_of_the_cases_goes_to_people_and_is_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate_by_hand()
    arrivals = searchable(6)
    past_decisions(ENOUGH)
    policy = switch_on(audit_share=0.5)
    monkeypatch.setattr(audit, "is_drawn", lambda product, _share: product in {one.pk for one in arrivals[:3]})
    for arrival in arrivals:
        service.find_and_save_matches(arrival.pk)
    assert [decided(arrival) is None for arrival in arrivals] == [True] * 3 + [False] * 3
    found = audit.audit_of(policy)
    assert (found.waiting, found.checked, found.decided, found.contradiction) == (3, 0, 3, "")
    best = arrivals[0].matches.get(rank=1)
    decide(arrivals[0], best.candidate)
    found = audit.audit_of(policy)
    assert (found.waiting, found.checked, found.right) == (2, 1, 1)


def test_policy_pauses_when_the_audit_contradicts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate_by_hand()
    arrivals = searchable(4)
    past_decisions(ENOUGH)
    policy = switch_on()
    monkeypatch.setattr(audit, "is_drawn", lambda product, _share: product != arrivals[3].pk)
    for arrival in arrivals[:2]:
        service.find_and_save_matches(arrival.pk)
        decide(arrival)  # a person says that it is new
    service.find_and_save_matches(arrivals[3].pk)
    policy.refresh_from_db()
    assert policy.paused_because == (
        "People found 0 of 2 checked cases right: at most 66\u00a0%, and 98\u00a0% was promised."
    )
    assert [decided(arrival) is not None for arrival in arrivals] == [True, True, False, False]
    with pytest.raises(ValidationError):
        switching.resume(policy, user_in("manager"))  # the same decisions are evidence now
    past_decisions(400)
    switching.resume(policy, user_in("manager"))
    service.find_and_save_matches(arrivals[3].pk)
    assert decided(arrivals[3]) is not None


def test_corrected_automatic_decisions_pause_it_too(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    policy = switch_on()
    for arrival in arrivals[:2]:
        service.find_and_save_matches(arrival.pk)
        decide(arrival)
    service.find_and_save_matches(arrivals[3].pk)
    policy.refresh_from_db()
    assert "corrected 2 of 2 automatic decisions" in policy.paused_because
    assert decided(arrivals[3]) is None


def test_decisions_on_deleted_products_and_a_clock_set_back_change_nothing(
    arrivals: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    past_decisions(ENOUGH)
    policy = switch_on()
    Product.objects.filter(name="candidate").delete()
    Decision.objects.update(decided_at=timezone.now() + timedelta(days=400))
    Policy.objects.update(evaluated_at=timezone.now() + timedelta(days=400))
    service.find_and_save_matches(arrivals[0].pk)
    assert decided(arrivals[0]) is not None
    arrivals[0].delete()
    assert audit.audit_of(policy).decided == 0


def test_probabilities_of_another_model_carry_nothing(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    shown = Decision.objects.values_list("shown", flat=True)[0]
    Decision.objects.update(shown=[shown[0] | {"model": "older"}])
    with pytest.raises(ValidationError, match="version in use"):
        switch_on()


def test_deleted_reviewer_keeps_automatic_and_own_decisions_apart(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    User.objects.get(username="reviewer").delete()
    switch_on()
    service.find_and_save_matches(arrivals[0].pk)
    assert Decision.objects.filter(automatic=True).count() == PolicyCase.objects.filter(is_audit=False).count() == 1


def test_case_decided_twice_by_people_counts_once_and_as_it_is_now(arrivals: list[Product]) -> None:
    past_decisions(ENOUGH)
    product, candidate = make_open_case(0.99, 0.01)
    decide(product, candidate)
    decisions.decide(product.pk, decisions.Choice("new"), user_in("manager"), override=True)
    with pytest.raises(ValidationError, match=r"Of 190 decided cases .* 189 were right"):
        switch_on()


@pytest.mark.django_db(transaction=True)
def test_person_and_policy_at_once_leave_the_persons_decision() -> None:
    past_decisions(ENOUGH)
    switch_on(audit_share=0.005)
    cases = [make_open_case(0.99, 0.01)[0] for _number in range(12)]
    reviewer = user_in("reviewer")

    def by_policy() -> None:
        for product in cases:
            deciding.consider(product, LEGACY_MODEL)

    def by_person() -> None:
        for product in reversed(cases):
            decisions.decide(product.pk, decisions.Choice("new"), reviewer)

    run_concurrently(by_policy, by_person, by_policy)
    made = Decision.objects.filter(product__in=cases)
    assert {(one.kind, one.automatic, one.reviewer) for one in made} == {("new", False, reviewer)}
    assert set(Match.objects.filter(product__in=cases).values_list("review_status", flat=True)) == {"rejected"}
