"""Verdicts of several reviewers on the same matches at the same moment."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
from django.contrib.auth.models import User

from matching.api.views import MatchView
from matching.models import Match
from matching.review import cases, decisions, verdicts
from matching.review.decisions import Choice, StaleError
from products.models import Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import make_case
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True)


def decide(user: User, product: Product, candidate: int, version: str) -> bool:
    """Decide that the product is the candidate. Return False if the page was stale."""
    try:
        decisions.decide(product.pk, Choice("same", [candidate]), user, version=version)
    except StaleError:
        return False
    return True


def test_of_two_decisions_at_the_same_moment_one_is_refused() -> None:
    users = [user_in("reviewer"), user_in("manager")]
    for _number in range(5):
        product, matches = make_case(90, 80)
        version = cases.read_case(product.pk).version
        saved = run_concurrently(
            *(
                partial(decide, user, product, match.candidate_id, version)
                for user, match in zip(users, matches, strict=True)
            )
        )
        assert sorted(saved) == [False, True]
        decided = cases.read_case(product.pk)
        assert decided.decision is not None
        [confirmed] = [match for match in decided.matches if match.review_status == "confirmed"]
        assert [confirmed.candidate_id] == decided.decision.candidates
        assert confirmed.reviewer == decided.decision.reviewer == users[saved.index(True)]


def test_note_keeps_a_verdict_that_is_given_at_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    _, [match] = make_case(90)
    get_object = MatchView.get_object

    def read_early(view: MatchView) -> Match:
        found = get_object(view)
        verdicts.set_verdict(match.pk, "confirmed", user_in("manager"))
        return found

    monkeypatch.setattr(MatchView, "get_object", read_early)
    response = client_of("reviewer").patch(f"/api/matches/{match.pk}", {"note": "see the handle"})
    assert (response.status_code, response.json()["review_status"]) == (200, "confirmed")
    match.refresh_from_db()
    assert (match.review_status, match.note, match.reviewer) == ("confirmed", "see the handle", user_in("manager"))


def test_simultaneous_verdicts_are_all_in_the_history_and_the_last_one_counts() -> None:
    _, [match] = make_case(90)
    reviewers = [user_in("reviewer"), user_in("manager")]

    def judge(number: int) -> None:
        for _ in range(5):
            status = ("confirmed", "rejected")[number]
            verdicts.set_verdict(match.pk, status, reviewers[number])

    run_concurrently(lambda: judge(0), lambda: judge(1))
    match.refresh_from_db()
    newest, *older = match.history.all()
    assert newest.review_status == match.review_status
    assert match.reviewer == reviewers[match.review_status == "rejected"]
    statuses = [newest.review_status, *(entry.review_status for entry in older)]
    assert all(before != after for before, after in pairwise(statuses))


def test_opposite_orders_of_simultaneous_verdicts_do_not_block_each_other() -> None:
    matches = [make_case(90)[1][0] for _ in range(20)]

    def judge(status: str, user: str, order: str) -> int:
        chosen = Match.objects.filter(pk__in=[match.pk for match in matches]).order_by(order)
        return sum(verdicts.set_verdicts(chosen, status, user_in(user)) for _ in range(5))

    user_in("reviewer"), user_in("manager")
    run_concurrently(lambda: judge("confirmed", "reviewer", "pk"), lambda: judge("rejected", "manager", "-pk"))
    assert len(set(Match.objects.values_list("review_status", flat=True))) == 1
