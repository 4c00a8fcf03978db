"""The page Quality shows what people's decisions say about the answers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from matching.models import Decision
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of
from tests.matching.decided_cases import decide, make_open_case, past_decisions

pytestmark = pytest.mark.django_db

PAGE = "/admin/quality/"


def test_charts_come_from_decisions_of_people_alone() -> None:
    past_decisions(100, right=90)
    Decision.objects.filter(kind="new")[:1].get()
    Decision.objects.filter(pk=Decision.objects.latest("pk").pk).update(automatic=True, reviewer=None)
    response = browser_of("viewer").get(PAGE)
    context = response.context
    assert context["count"] == 119
    surest = context["bins"][-1]
    assert (round(surest.promised, 2), surest.count) == (0.99, 11)
    assert context["curve"][-1][0] in ("100\u00a0%", "97\u00a0%")
    assert response.content.decode().count('<svg class="cm-quality"') == 3


def test_probabilities_are_kept_when_a_case_is_decided() -> None:
    product, candidate = make_open_case(0.8, 0.2)
    decide(product, candidate)
    decision = Decision.objects.get()
    assert (decision.shown[0]["probability"], decision.not_in_catalogue) == (0.8, 0.2)
    [(_week, group)] = browser_of("viewer").get(PAGE).context["weeks"]
    assert (group.first, group.same) == (1, 1)


def test_confused_pairs_come_surest_first_and_deleted_ones_are_left_out() -> None:
    for probability in (0.7, 0.9, 0.8):
        decide(make_open_case(probability, 1 - probability)[0])
    gone = make_open_case(0.95, 0.05)
    decide(gone[0])
    gone[1].delete()
    shown = browser_of("viewer").get(PAGE).context["confusions"]
    assert [pair["probability"] for pair in shown] == ["90\u00a0%", "80\u00a0%", "70\u00a0%"]


def test_category_is_shown_alone_and_future_decisions_count_as_now() -> None:
    past_decisions(30, category="Lamps & co")
    past_decisions(10)
    Decision.objects.update(decided_at=timezone.now() + timedelta(days=500))
    response = browser_of("viewer").get(PAGE, {"category": "Lamps & co"})
    assert response.context["count"] == 50
    assert [week for week, _group in response.context["weeks"]] == ["this week"]
    assert browser_of("viewer").get(PAGE, {"category": "unknown"}).context["count"] == 80


def test_page_without_decisions_says_what_is_missing() -> None:
    assert "once people have decided cases" in browser_of("viewer").get(PAGE).content.decode()
    Product.objects.create(name="alone")
    user_in("reviewer")
    assert browser_of("viewer").get(PAGE).status_code == 200
