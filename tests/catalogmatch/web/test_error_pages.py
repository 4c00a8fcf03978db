"""Error pages: a sentence and a link, never only a status code."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.helpers.accounts import user_in

pytestmark = pytest.mark.django_db


def signed_in() -> Client:
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.force_login(user_in("viewer"))
    return client


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("get", "/nothing", 404, "Page not found"),
        ("get", "/admin/nothing/", 404, "Page not found"),
        ("get", "/admin/auth/user/", 403, "Your role does not include this page"),
        ("post", "/admin/ask/", 403, "open for too long"),
        ("get", "/admin/history/", 500, "Something went wrong"),
    ],
)
def test_error_pages_explain_the_error_in_words(
    method: str, path: str, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalogmatch.admin.history.history_page", lambda *_: 1 / 0)
    response = getattr(signed_in(), method)(path)
    page = response.content.decode()
    assert response.status_code == status
    assert words in page
    assert 'href="/admin/"' in page
    assert "Traceback" not in page
    assert "style-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/admin/products/product/999999/change/", "/admin/auth/user/"])
def test_errors_of_signed_in_users_are_shown_within_the_site(path: str) -> None:
    assert 'id="nav-sidebar"' in signed_in().get(path, follow=True).content.decode()


def test_errors_outside_the_site_show_no_navigation() -> None:
    assert 'id="nav-sidebar"' not in signed_in().get("/nothing").content.decode()
    assert 'id="nav-sidebar"' not in Client().get("/nothing").content.decode()


def test_api_errors_are_problem_documents() -> None:
    response = Client().get("/api/nothing")
    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")
