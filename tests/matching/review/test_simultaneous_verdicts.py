"""Verdicts of several reviewers on the same matches at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from django.db.models import QuerySet

from core.database import batches
from matching.api.views import MatchView
from matching.models import Match
from matching.review import verdicts
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import browser_of, make_case
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def after_selection(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that runs another one once a verdict on many matches has selected them, before it locks."""
    select = batches.iter_pk_batches

    def then(action: Callable[[], object]) -> None:
        def selecting(rows: QuerySet[Match]) -> Iterator[list[int]]:
            selected = list(select(rows))
            action()
            yield from selected

        monkeypatch.setattr("matching.review.verdicts.iter_pk_batches", selecting)

    return then


def test_none_of_these_keeps_a_match_that_is_confirmed_at_the_same_moment(after_selection: Any) -> None:
    product, matches = make_case(90, 80)
    after_selection(lambda: verdicts.set_verdict(matches[0].pk, "confirmed", user_in("manager")))
    browser_of("reviewer").post(f"/admin/matching/match/case/{product.pk}/none/", headers={"HX-Request": "true"})
    assert [match.review_status for match in product.matches.order_by("pk")] == ["confirmed", "rejected"]


def test_undo_keeps_a_verdict_that_another_reviewer_gives_at_the_same_moment(after_selection: Any) -> None:
    product, [match] = make_case(90)
    verdicts.set_verdict(match.pk, "rejected", user_in("reviewer"))
    after_selection(lambda: verdicts.set_verdict(match.pk, "confirmed", user_in("manager")))
    browser_of("reviewer").post(f"/admin/matching/match/case/{product.pk}/undo/", {"match": match.pk})
    match.refresh_from_db()
    assert (match.review_status, match.reviewer) == ("confirmed", user_in("manager"))


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
