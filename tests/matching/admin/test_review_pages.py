"""Review in the admin: match list, case page, verdicts by button and in bulk, and permissions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from matching.models import Match
from matching.review import cases, comparison, leases, queue, verdicts
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_case, make_match, make_product
from tests.helpers.vectors import add_product, legacy_features

pytestmark = pytest.mark.django_db

LIST = "/admin/matching/match/"


def verdict_of(match: Match) -> tuple[str, str | None]:
    match.refresh_from_db()
    return match.review_status, match.reviewer.username if match.reviewer else None


def give(role: str, match: Match, status: str, **headers: str) -> Any:
    return browser_of(role).post(f"{LIST}{match.pk}/verdict/", {"status": status}, headers=headers)


@pytest.mark.parametrize("count", [2, 20])
def test_match_list_needs_the_same_number_of_queries_for_any_length(
    count: int, django_assert_max_num_queries: Any
) -> None:
    for _ in range(count):
        make_case(60, category="mugs")
    browser = browser_of("reviewer")
    with django_assert_max_num_queries(12):
        page = browser.get(LIST)
    assert len(page.context["cl"].result_list) == count


def test_list_shows_both_products_side_by_side() -> None:
    product, _ = make_case(87.25, sku="NEW-1", category="mugs", attributes={"colour": "blue"})
    page = browser_of("viewer").get(LIST).content.decode()
    for shown in ("NEW-1", "candidate 87.25", "87.2", "colour: blue", product.images.get().thumbnail_url):
        assert shown in page


@pytest.mark.parametrize(
    ("query", "scores"),
    [
        ("score=90", {90.0, 100.0}),
        ("score=70", {79.9}),
        ("review_status__exact=rejected", {100.0}),
        ("category=mugs", {79.9}),
        ("feature_type__exact=clip", {90.0}),
        ("q=candidate 79", {79.9}),
    ],
)
def test_list_is_narrowed_by_filters_and_search(query: str, scores: set[float]) -> None:
    _, matches = make_case(90, 100)
    make_case(79.9, category="mugs")
    Match.objects.filter(pk=matches[0].pk).update(feature_type="clip")
    verdicts.set_verdict(matches[1].pk, "rejected", user_in("reviewer"))
    page = browser_of("viewer").get(f"{LIST}?{query}")
    assert {match.similarity_score for match in page.context["cl"].result_list} == scores


def test_pending_matches_are_listed_best_first() -> None:
    make_case(60, 95, 80)
    page = browser_of("viewer").get(f"{LIST}?review_status__exact=pending")
    assert [match.similarity_score for match in page.context["cl"].result_list] == [95, 80, 60]


def test_verdict_by_button_returns_the_new_buttons() -> None:
    _, [match] = make_case(80)
    response = give("reviewer", match, "confirmed", **{"HX-Request": "true"})
    assert verdict_of(match) == ("confirmed", "reviewer")
    assert "Undo" in response.content.decode()
    assert "<html" not in response.content.decode()
    give("reviewer", match, "pending", **{"HX-Request": "true"})
    assert verdict_of(match) == ("pending", None)


def test_verdict_without_script_goes_back_to_the_page_it_came_from() -> None:
    _, [match] = make_case(80)
    page = f"http://testserver{LIST}?score=80"
    assert give("reviewer", match, "rejected", Referer=page)["Location"] == page
    assert give("reviewer", match, "rejected", Referer="https://elsewhere.example/")["Location"] == LIST
    assert verdict_of(match) == ("rejected", "reviewer")


def test_verdict_on_a_deleted_match_and_unknown_verdict_are_rejected() -> None:
    _, [match] = make_case(80)
    assert give("reviewer", match, "maybe").status_code == 400
    Match.objects.all().delete()
    assert give("reviewer", match, "confirmed").status_code == 404


@pytest.mark.usefixtures("unconstrained_vectors")
def test_match_now_reports_damaged_features() -> None:
    product = add_product(*legacy_features(1), historical=False)
    product.features.update(color_features=bytes(256), shape_features=bytes(28), texture_features=bytes(256))
    page = browser_of("uploader").post(f"/admin/products/product/{product.pk}/match/", follow=True)
    assert "The stored features are damaged." in page.content.decode()


def test_verdict_needs_a_csrf_token() -> None:
    _, [match] = make_case(80)
    browser = browser_of("reviewer")
    browser.handler.enforce_csrf_checks = True
    assert browser.post(f"{LIST}{match.pk}/verdict/", {"status": "confirmed"}).status_code == 403
    assert verdict_of(match) == ("pending", None)


@pytest.mark.parametrize("role", ["viewer", "uploader"])
def test_users_without_review_permission_see_no_buttons_and_cannot_judge(role: str) -> None:
    product, [match] = make_case(80)
    browser = browser_of(role)
    for path in (LIST, f"{LIST}case/{product.pk}/"):
        page = browser.get(path)
        assert page.status_code == 200
        assert b"Confirm" not in page.content
        assert b"None of these" not in page.content
    browser.post(LIST, {"action": "confirm", "_selected_action": [match.pk]})
    assert give(role, match, "confirmed").status_code == 403
    for action in ("decide", "undo"):
        assert browser.post(f"{LIST}case/{product.pk}/{action}/", {"decision": "new"}).status_code == 403
    assert verdict_of(match) == ("pending", None)


@pytest.mark.parametrize(
    ("action", "status"), [("confirm", "confirmed"), ("reject", "rejected"), ("take_back", "pending")]
)
def test_selected_matches_are_judged_together(action: str, status: str) -> None:
    _, [first, second, other] = make_case(80, 70, 60)
    for match in (first, second, other):
        verdicts.set_verdict(match.pk, "rejected" if status == "confirmed" else "confirmed", user_in("reviewer"))
    untouched = verdict_of(other)
    browser_of("reviewer").post(LIST, {"action": action, "_selected_action": [first.pk, second.pk]})
    assert verdict_of(first)[0] == verdict_of(second)[0] == status
    assert verdict_of(other)[0] == (untouched[0] if status != "confirmed" else "rejected")


def test_verdicts_of_other_reviewers_are_kept_when_many_are_judged_together() -> None:
    _, [first, second] = make_case(80, 70)
    verdicts.set_verdict(first.pk, "confirmed", user_in("manager"))
    page = browser_of("reviewer").post(
        LIST, {"action": "reject", "_selected_action": [first.pk, second.pk]}, follow=True
    )
    assert verdict_of(first) == ("confirmed", "manager")
    assert "1 match keeps the verdict of another reviewer." in page.content.decode()


def test_case_shows_candidates_best_first_with_their_differences() -> None:
    product, _ = make_case(60, 90, category="mugs", attributes={"colour": "blue", "size": "L"})
    same = make_product(is_historical=True, name="same", category="Mugs", attributes={"colour": "red", "size": "L"})
    make_match(product, same, 75)
    page = browser_of("viewer").get(f"{LIST}case/{product.pk}/")
    shown = [item["match"].candidate.name for item in page.context["candidates"]]
    assert shown == ["candidate 90", "same", "candidate 60"]
    differing = {row.name for row in comparison.differences(product, same) if row.differs}
    assert differing == {"colour"}
    text = page.content.decode()
    assert "(differs)" in text
    row = r"<th scope=\"row\">size</th>\s*<td dir=\"auto\">L</td>\s*<td dir=\"auto\">\s*–"
    assert len(re.findall(row, text)) == 2  # candidates without a size


def test_case_compares_numbers_brand_and_price() -> None:
    product, _ = make_case(90)
    candidate = product.matches.get().candidate
    Product.objects.filter(pk=product.pk).update(gtin="0400638133393", brand="Nord", price="9.9", currency="EUR")
    Product.objects.filter(pk=candidate.pk).update(gtin="400638133393", brand="nord", price="12", currency="EUR")
    page = browser_of("viewer").get(f"{LIST}case/{product.pk}/")
    [shown] = page.context["candidates"]
    assert shown["differing"] == ["Price"]
    assert shown["varying"] == []  # a variant does not differ "in price"
    rows = {row.name: (row.product, row.candidate) for row in shown["differences"]}
    assert rows["Price"] == ("9.90 EUR", "12.00 EUR")
    assert rows["Brand"] == ("Nord", "nord")
    assert rows["GTIN"] == ("0400638133393", "400638133393")


def test_match_opens_as_its_case() -> None:
    product, [match] = make_case(80)
    assert browser_of("viewer").get(f"{LIST}{match.pk}/change/")["Location"] == f"{LIST}case/{product.pk}/"


def test_next_case_goes_through_all_pending_cases_and_starts_over() -> None:
    products = [make_case(80)[0] for _ in range(3)]
    browser, seen = browser_of("reviewer"), []
    path = f"{LIST}case/"
    for _ in range(4):
        seen.append(browser.get(path)["Location"])
        path = f"{LIST}case/?after={seen[-1].rstrip('/').rsplit('/')[-1]}"
    newest_first = [f"{LIST}case/{product.pk}/" for product in reversed(products)]
    assert seen == [*newest_first, newest_first[0]]


def test_viewing_the_next_case_removes_no_case() -> None:
    product, _ = make_case(80)
    assert browser_of("viewer").get(f"{LIST}case/")["Location"] == f"{LIST}case/{product.pk}/"
    assert leases.lease_next_case(user_in("reviewer")) == product.pk


def decide(role: str, product: Product, query: str = "", **fields: Any) -> Any:
    return browser_of(role).post(f"{LIST}case/{product.pk}/decide/{query}", fields, follow=True)


def test_decision_settles_all_candidates_and_goes_to_the_next_case() -> None:
    product, [first, second, third] = make_case(90, 80, 70)
    response = decide("reviewer", product, decision="same", candidate=second.candidate_id)
    assert [verdict_of(match) for match in (first, second, third)] == [
        ("rejected", "reviewer"), ("confirmed", "reviewer"), ("rejected", "reviewer"),
    ]  # fmt: skip
    assert response.redirect_chain[-1][0] == LIST
    text = response.content.decode()
    assert "arrival: the same as candidate 80. 2 other candidates were settled." in text
    assert "No other case waits for a decision." in text


def test_next_case_after_a_decision_is_within_the_filter() -> None:
    make_case(80, category="lamps")
    expected, _ = make_case(80, category="mugs")
    product, _ = make_case(80, category="mugs")
    response = decide("reviewer", product, "?category=mugs", decision="new")
    assert response.redirect_chain[-1][0] == f"{LIST}case/{expected.pk}/?category=mugs"


def test_decision_on_a_stale_page_is_refused_and_the_case_says_who_decided_what() -> None:
    product, [first, second] = make_case(90, 80)
    stale = cases.read_case(product.pk).version
    decide("manager", product, decision="same", candidate=first.candidate_id)
    response = decide("reviewer", product, decision="same", candidate=second.candidate_id, version=stale)
    assert response.status_code == 409
    text = response.content.decode()
    assert "manager has decided this case: the same as candidate 90" in text
    assert "Keep it" in text
    assert verdict_of(first) == ("confirmed", "manager")
    fresh = response.context["case"].version
    decide("reviewer", product, decision="same", candidate=second.candidate_id, version=fresh)
    assert (verdict_of(first), verdict_of(second)) == (("rejected", "reviewer"), ("confirmed", "reviewer"))


def test_invalid_decision_is_refused() -> None:
    product, [match] = make_case(90)
    for fields in ({"decision": "maybe"}, {"decision": "same"}, {"decision": "same", "candidate": product.pk}):
        assert decide("reviewer", product, **fields).status_code == 400
    assert verdict_of(match) == ("pending", None)
    assert browser_of("reviewer").post(f"{LIST}case/{product.pk + 99}/decide/", {"decision": "new"}).status_code == 404


def test_open_cases_are_counted_by_the_score_band_of_their_best_candidate() -> None:
    for scores in ((100, 12), (90,), (89.99, 60), (12,)):
        make_case(*scores)
    counts = {band.label: count for band, count in queue.open_by_band().items()}
    assert counts == {"90–100": 2, "80–90": 1, "70–80": 0, "50–70": 0, "0–50": 1}
    assert [queue.open_count(queue.ReviewFilter(band=band)) for band in queue.BANDS] == list(counts.values())


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("day", ["0001-01-01", "0001-01-02", "9999-12-30", "9999-12-31"])
def test_first_and_last_days_of_the_calendar_are_no_error(zone: str, day: str, settings: Settings) -> None:
    settings.TIME_ZONE = zone
    make_case(80)
    for query in ({"since": day}, {"until": day}):
        assert browser_of("reviewer").get("/admin/matching/match/case/", query).status_code == 302


def test_unknown_cases_and_undoing_nothing_are_no_error() -> None:
    product, (match,) = make_case(80)
    browser, unknown = browser_of("reviewer"), [product.pk + 999, 2**63, 2**70, "9" * 5000, "²", "٣", "-1", "NaN", ""]
    assert browser.post("/admin/matching/match/case/hold/", {"case": unknown}).json() == {"held": []}
    for value in unknown:
        assert browser.post("/admin/matching/match/case/ahead/", {"shown": value, "left": value}).status_code == 200
        assert browser.post("/admin/matching/match/case/release/", {"case": value}).status_code == 204
        undone = browser.post(f"/admin/matching/match/case/{product.pk}/undo/", {"match": value})
        assert undone.status_code == 200
        form = {"action": "take_back", "_selected_action": value}
        assert browser.post("/admin/matching/match/", form).status_code in (302, 400)
    assert browser.post(f"/admin/matching/match/case/{product.pk + 999}/undo/").status_code == 404
    selected = {"action": "take_back", "_selected_action": match.pk}  # it has no verdict
    assert browser.post("/admin/matching/match/", selected).status_code == 302
    connection.check_constraints()
