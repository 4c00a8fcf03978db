"""The page Policy and its API: preview before switching on, refusals, marks on what was decided, undoing a day."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.utils import timezone

from matching import service
from matching.models import Decision, Policy
from matching.policy import audit
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of
from tests.matching.decided_cases import calibrate_by_hand, make_open_case, past_decisions, searchable

pytestmark = pytest.mark.django_db

EDIT = "/admin/policy/edit/?category="
ON = {"confirms": "on", "promise": "98", "confidence": "0.95", "audit_share": "2"}


@pytest.fixture(autouse=True)
def _no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "is_drawn", lambda _product, _share: False)


def text_of(response: object) -> str:
    return " ".join(response.content.decode().split())  # type: ignore[attr-defined]


def test_preview_says_what_would_be_decided_and_what_would_have_been_wrong() -> None:
    past_decisions(700, right=697)
    for _number in range(3):
        make_open_case(0.99, 0.01)
    make_open_case(0.6, 0.4)
    page = text_of(browser_of("manager").get(EDIT))
    assert "4 cases wait. Both together would decide 75" in page
    assert "697 of 700 right" in page
    assert page.count("(99 %)") == 3
    assert "Decides nothing." in page  # new products
    assert not Policy.objects.exists()


def test_switching_on_decides_the_cases_that_wait_and_the_review_page_says_who() -> None:
    past_decisions(200)
    product, candidate = make_open_case(0.99, 0.01)
    browser = browser_of("manager")
    assert browser.post(EDIT, ON | {"try": "1"}).status_code == 200
    assert not Policy.objects.exists()
    assert browser.post(EDIT, ON).status_code == 302
    assert Decision.objects.get(product=product).automatic
    assert "The policy decided on" in text_of(browser.get(f"/admin/matching/match/case/{product.pk}/"))
    chosen = browser.get("/admin/matching/match/?made_by=policy").context["cl"].queryset
    assert [match.candidate for match in chosen] == [candidate]
    found = client_of("viewer").get("/api/cases?automatic=true").json()
    assert [case["product_id"] for case in found["results"]] == [product.pk]
    exported: Any = browser.post("/admin/matching/match/", {"action": "export_csv", "_selected_action": [chosen[0].pk]})
    header, row = b"".join(exported.streaming_content).decode("utf-8-sig").splitlines()[:2]
    assert dict(zip(header.split(","), row.split(","), strict=True))["automatic"] == "True"


def test_what_is_not_carried_is_refused_with_the_reason() -> None:
    past_decisions(10)
    response = browser_of("manager").post(EDIT, ON)
    assert response.status_code == 422
    assert "people must have decided 189 cases without a mistake" in text_of(response)
    for bad in ({"promise": "x"}, {"promise": "nan"}, {"audit_share": "0"}, {"confidence": "0.5"}):
        assert browser_of("manager").post(EDIT, ON | bad).status_code == 422
    assert not Policy.objects.exists()


def test_paused_policy_says_why_and_goes_on() -> None:
    past_decisions(200)
    Policy.objects.create(confirms=True, paused_at=timezone.now(), paused_because="People found 0 of 3 right.")
    browser = browser_of("manager")
    assert "People found 0 of 3 right." in text_of(browser.get(EDIT))
    assert "paused" in text_of(browser.get("/admin/policy/"))
    browser.post("/admin/policy/resume/?category=")
    assert Policy.objects.get().paused_at is None


def test_day_is_undone_after_a_question() -> None:
    past_decisions(200)
    for _number in range(3):
        make_open_case(0.99, 0.01)
    browser = browser_of("manager")
    browser.post(EDIT, ON)
    day = timezone.localdate().isoformat()
    assert f"day={day}" in text_of(browser.get("/admin/policy/"))
    assert "3 decisions are undone" in text_of(browser.get(f"/admin/policy/undo/?day={day}"))
    done = browser.post("/admin/policy/undo/", {"day": day})
    assert [str(message) for message in get_messages(done.wsgi_request)] == ["3 automatic decisions were undone."]
    assert not Decision.objects.filter(automatic=True).exists()
    assert browser.get("/admin/policy/undo/?day=0000-99-99").status_code == 302


def test_only_managers_see_and_change_policies() -> None:
    for role, status in (("viewer", 403), ("uploader", 403), ("reviewer", 403), ("manager", 200)):
        assert browser_of(role).get("/admin/policy/").status_code == status
        assert client_of(role).get("/api/policies").status_code == status
    assert browser_of("reviewer").post(EDIT, ON).status_code == 403


def test_api_shows_and_changes_the_policies() -> None:
    client = client_of("manager")
    refused = client.patch("/api/policies", {"confirms": True}, format="json")
    assert refused.status_code == 400
    assert "People have not decided any case" in str(refused.json())
    past_decisions(200, category="Lamps")
    assert client.patch("/api/policies", {"category": "Lamps", "confirms": True}, format="json").status_code == 200
    default, lamps = client.get("/api/policies").json()
    assert (default["category"], default["confirms"], default["audit"]) == ("", False, None)
    assert (lamps["category"], lamps["confirms"], lamps["same"]["decided_from"]) == ("Lamps", True, 0.99)
    assert client.patch("/api/policies", {"category": "Lamps", "promise": 2}, format="json").status_code == 400


def test_own_policy_is_removed_and_its_decisions_stay() -> None:
    calibrate_by_hand()
    arrival = searchable(1, category="Lamps")[0]
    past_decisions(200, category="Lamps")
    browser = browser_of("manager")
    browser.post(EDIT + "Lamps", ON)
    service.find_and_save_matches(arrival.pk)
    assert browser.post("/admin/policy/remove/?category=Lamps").status_code == 302
    assert not Policy.objects.exists()
    assert Decision.objects.filter(product=arrival, automatic=True).exists()
    assert Product.objects.filter(pk=arrival.pk).exists()
