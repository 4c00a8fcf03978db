"""Values that the database or Python cannot use get a 4xx response. The nonsense test found each of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from catalogmatch.web.requests import UnicodeRequest
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of, make_case, save_product

pytestmark = pytest.mark.django_db

TOO_LARGE = str(-(2**63) - 1)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"a": ' * 5000, "{", '{"a": 9' + "9" * 5000 + "}"])
def test_json_that_python_cannot_read_is_invalid(text: str) -> None:
    product, (match,) = make_case(80)
    for role, path in (("uploader", f"products/{product.pk}"), ("reviewer", f"matches/{match.pk}")):
        response = client_of(role).generic("PATCH", f"/api/{path}", text, content_type="application/json")
        assert (response.status_code, response.json()["code"]) == (400, "validation_error")
    assert (
        client_of("uploader").generic("POST", f"/api/products/{product.pk}/match", text, "application/json").status_code
        == 400
    )
    page = save_product(product, attributes=text)
    assert page.status_code == 200
    assert page.context["adminform"].form.errors["attributes"] == ["Enter a valid JSON."]


@pytest.mark.parametrize("address", [
    f"/admin/products/product/?pk__in={TOO_LARGE},1", f"/admin/matching/match/export.csv?id__in={TOO_LARGE}",
    f"/admin/auth/user/?id__in={2**64}", f"/admin/auth/group/?id__in={2**64}",
])  # fmt: skip
def test_filter_by_a_number_of_over_64_bits_is_no_error(address: str) -> None:
    boss = User.objects.create_superuser("boss")
    assert browser_of(boss).get(address).status_code in (200, 400)  # PostgreSQL compares any numbers


def test_form_with_a_number_of_over_64_bits_changes_nothing() -> None:
    browser, group = browser_of(User.objects.create_superuser("boss")), Group.objects.get(name="viewer")
    before = set(group.permissions.all())
    form: dict[str, Any] = {"name": "other", "permissions": [TOO_LARGE]}
    assert browser.post(f"/admin/auth/group/{group.pk}/change/", form).status_code in (200, 400)
    group.refresh_from_db()
    assert (group.name, set(group.permissions.all())) == ("viewer", before)
    user = {"username": "new", "password1": "long-and-odd-1", "password2": "long-and-odd-1", "groups": [TOO_LARGE]}
    assert browser.post("/admin/auth/user/add/", user).status_code in (200, 400)
    assert not User.objects.filter(username="new").exists()


@pytest.mark.parametrize(
    "text", [TOO_LARGE, str(2**63), "9" * 5000, "²", "x", "1,2", "NaN", "\0", "-1", "+1", "1_0", ""]
)
@pytest.mark.parametrize("address", ["products/product/", "matching/match/", "auth/user/", "auth/group/"])
def test_selection_that_can_be_none_is_rejected(address: str, text: str) -> None:
    browser = browser_of(User.objects.create_superuser("boss"))
    form = {"action": "delete_selected", "_selected_action": ["1", text], "post": "yes"}
    assert browser.post(f"/admin/{address}", form).status_code == 400


@pytest.mark.parametrize("referer", ["\xff", "x", "admin:logout", "http://[", "/admin/?a=\xff"])
def test_odd_referer_leads_back_to_a_page(referer: str) -> None:
    _product, (match,) = make_case(80)
    headers: dict[str, Any] = {"HTTP_REFERER": referer, "HTTP_HX_CURRENT_URL": "http://["}
    response = browser_of("reviewer").post(
        f"/admin/matching/match/{match.pk}/verdict/", {"status": "confirmed"}, **headers
    )
    assert response.status_code == 302


def test_documentation_of_the_api_refuses_other_methods() -> None:
    assert browser_of("viewer").options("/api/docs").status_code == 405


@pytest.mark.parametrize("charset", ["hex", "utf-16", "undefined", "klingon", "a\0b"])
def test_body_in_another_charset_is_refused(charset: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.test.client.WSGIRequest", UnicodeRequest)
        for content_type in (
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ):
            for path in ("/api/match", "/admin/login/?a=%ff"):
                response = Client().generic("POST", path, b"a=%ff", f"{content_type}; charset={charset}")
                assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
