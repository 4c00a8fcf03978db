"""An empty installation leads to its first decision, and each empty page says why it is empty."""

from __future__ import annotations

import re

import pytest

from matching.review.decisions import Choice, decide
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_match, make_product

pytestmark = pytest.mark.django_db


def next_step(role: str = "manager") -> str:
    """Return the title of the step that comes next, or "" without first steps."""
    page = browser_of(role).get("/admin/").content.decode()
    found = re.search(r'aria-current="step">.*?<p class="cm-name">([^<]*)', page, re.DOTALL)
    return found.group(1) if found else ""


def test_first_steps_follow_the_state_from_import_to_decision() -> None:
    assert next_step() == "Bring in your catalogue"
    candidate = make_product("pending", is_historical=True)
    assert next_step() == "Let the worker look at the images"
    candidate.images.update(state="ready")
    assert next_step() == "Get a first answer"
    arrival = make_product()
    assert "No candidate was found" in browser_of("manager").get("/admin/").content.decode()
    make_match(arrival, candidate)
    assert next_step() == "Make the first decision"
    decide(arrival.pk, Choice("same", [candidate.pk]), user_in("reviewer"))
    assert "First steps" not in browser_of("manager").get("/admin/").content.decode()


def test_a_step_offers_only_what_the_role_may_do() -> None:
    page = browser_of("viewer").get("/admin/").content.decode()
    assert "Bring in your catalogue" in page
    assert "/admin/products/product/import/" not in page


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/admin/products/product/", "There is no product yet"),
        ("/admin/matching/match/?review_status__exact=pending", "because the catalogue is empty"),
        ("/admin/matching/match/case/", "because the catalogue is empty"),
        ("/admin/history/", "Nothing has changed yet"),
        ("/admin/products/product/import/", "changes nothing until you say so"),
        ("/admin/models/", "Learning needs a catalogue"),
        ("/admin/ask/", "The catalogue is empty"),
    ],
)
def test_empty_page_says_why_it_is_empty(address: str, reason: str) -> None:
    page = browser_of("manager").get(address, follow=True)
    assert page.status_code == 200
    assert reason in page.content.decode()


def test_a_filter_without_results_is_not_called_an_empty_catalogue() -> None:
    make_product()
    page = browser_of("viewer").get("/admin/products/product/?is_historical__exact=1").content.decode()
    assert "Nothing passes these filters" in page
    assert "There is no product yet" not in page
