"""Two reviewers on a sample: the second answer is given unseen, counted, and settled if it differs."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from catalogmatch.accounts.roles import give_role
from matching.models import Decision, SecondOpinion
from matching.review import decisions
from matching.review.agreement import agreement
from matching.review.decisions import Choice
from products import preferences
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_case

pytestmark = pytest.mark.django_db

AGREEMENT, SECOND = "/admin/agreement/", "/admin/agreement/second/"


@pytest.fixture(autouse=True)
def _all_cases() -> None:
    preferences.change({"review.second_share": 100}, None)


@pytest.fixture
def other() -> User:
    user = User.objects.create_user("other")
    give_role(user, "reviewer")
    return user


def decided(kind: str = "same") -> tuple[Product, int]:
    """Return a case that ``reviewer`` decided, and its candidate's id."""
    product, [match] = make_case(90)
    chosen = [match.candidate_id] if kind in ("same", "variant") else []
    decisions.decide(product.pk, Choice(kind, chosen), user_in("reviewer"))
    return product, match.candidate_id


def answer(user: User, kind: str, *candidates: int) -> str:
    browser = browser_of(user)
    opinion = browser.get(SECOND).context["opinion"]
    post = {"opinion": opinion.pk, "decision": kind, "candidate": candidates}
    return browser.post(SECOND, post, follow=True).content.decode()


def test_second_reviewer_does_not_see_the_first_answer_and_changes_nothing(other: User) -> None:
    product, _candidate = decided("same")
    page = browser_of(other).get(SECOND).content.decode()
    assert "confirmed" not in page
    assert "The same as the marked ones" in page
    assert "Your answer is stored." in answer(other, "new")
    assert Decision.objects.get(product=product).kind == "same"


def test_first_reviewer_gives_no_second_answer() -> None:
    decided()
    page = browser_of(user_in("reviewer")).get(SECOND, follow=True)
    assert "No case waits for your second opinion." in page.content.decode()
    post = {"opinion": SecondOpinion.objects.get().pk, "decision": "new"}
    answered = browser_of(user_in("reviewer")).post(SECOND, post, follow=True).content.decode()
    assert "You gave the first answer of this case." in answered
    assert SecondOpinion.objects.get().second is None


def test_agreement_is_counted_with_interval_and_kappa(other: User) -> None:
    for first, second in (("same", "same"), ("same", "same"), ("new", "new"), ("same", "new")):
        _product, candidate = decided(first)
        answer(other, second, *([candidate] if second == "same" else []))
    found = agreement()
    assert found is not None
    assert (found.count, found.agreed) == (4, 3)
    # Observed 3/4; by chance 3/4 · 2/4 + 1/4 · 2/4 = 1/2.
    assert found.kappa == pytest.approx(0.5)
    assert found.interval == pytest.approx((0.3006, 0.9544), abs=1e-3)
    assert "3 / 4" in browser_of("viewer").get(AGREEMENT).content.decode()


def test_manager_settles_a_disagreement_with_either_answer(other: User) -> None:
    kept, _ = decided("same")
    answer(other, "new")
    taken, candidate = decided("new")
    answer(other, "same", candidate)
    page = browser_of("manager").get(AGREEMENT).content.decode()
    assert page.count("cm-disagreement") == 2
    for product, take in ((kept, "first"), (taken, "second")):
        post = {"opinion": SecondOpinion.objects.get(product=product).pk, "take": take}
        assert browser_of("reviewer").post("/admin/agreement/settle/", post).status_code == 403
        settled = browser_of("manager").post("/admin/agreement/settle/", post, follow=True).content.decode()
        assert "The disagreement is settled." in settled
        again = browser_of("manager").post("/admin/agreement/settle/", post, follow=True).content.decode()
        assert "settled already" in again
    assert Decision.objects.get(product=kept).kind == "same"
    assert Decision.objects.get(product=taken).candidates == [candidate]
    assert "cm-disagreement" not in browser_of("manager").get(AGREEMENT).content.decode()


def test_an_undone_decision_leaves_the_sample(other: User) -> None:
    product, _candidate = decided()
    decisions.undo(product.pk, user_in("reviewer"))
    assert "No case waits" in browser_of(other).get(SECOND, follow=True).content.decode()


def test_by_default_no_case_gets_a_second_reviewer() -> None:
    preferences.change({"review.second_share": 0}, None)
    decided()
    assert not SecondOpinion.objects.exists()
    assert "A manager sets the share" in browser_of("viewer").get(AGREEMENT).content.decode()


def test_share_is_a_share_of_the_cases() -> None:
    preferences.change({"review.second_share": 30}, None)
    for _ in range(60):
        decided("new")
    assert 8 <= SecondOpinion.objects.count() <= 28
