"""Text search for matches: by words of one product, of both, and of very many products."""

from __future__ import annotations

import pytest

from matching import text_search
from matching.models import Match
from tests.helpers.rows import browser_of, make_match, make_product

pytestmark = pytest.mark.django_db

LIST = "/admin/matching/match/"


@pytest.fixture
def matches() -> dict[str, Match]:
    blue = make_product(name="blue cup", sku="N-1")
    red = make_product(name="red cup", sku="N-2")
    vase = make_product(is_historical=True, name="Blue vase", sku="H-1")
    bowl = make_product(is_historical=True, name="white bowl", sku="H-2")
    return {
        "blue-vase": make_match(blue, vase),
        "blue-bowl": make_match(blue, bowl),
        "red-vase": make_match(red, vase),
        "red-bowl": make_match(red, bowl),
    }


def found(text: str) -> text_search.TextMatches:
    return text_search.search_matches(Match.objects.all(), text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blue", {"blue-vase", "blue-bowl", "red-vase"}),  # in either product, in upper or lower case
        ("H-2", {"blue-bowl", "red-bowl"}),
        ("blue cup", {"blue-vase", "blue-bowl"}),  # both words in one product
        ("N-2 H-1", {"red-vase"}),  # one word in each product of the match
        ("N-2 nothing", set()),
        ("nothing", set()),
    ],
)
def test_matches_are_found_by_the_words_of_their_products(
    matches: dict[str, Match], text: str, expected: set[str]
) -> None:
    result = found(text)
    assert {match.pk for match in result.matches} == {matches[name].pk for name in expected}
    assert not result.is_truncated


def test_search_with_too_many_products_covers_the_newest_and_says_so(
    matches: dict[str, Match], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "MAX_PRODUCTS", 1)
    result = found("cup")
    assert result.is_truncated
    assert {match.pk for match in result.matches} == {matches["red-vase"].pk, matches["red-bowl"].pk}
    page = browser_of("viewer").get(f"{LIST}?q=cup")
    assert "Add a word" in page.content.decode()
    assert "Add a word" not in browser_of("viewer").get(f"{LIST}?q=H-2").content.decode()
