"""What a person sees where something is refused or goes wrong: a sentence and a way on, never a bare code."""

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
        ("get", "/nothing", 404, "There is nothing here"),
        ("get", "/admin/nothing/", 404, "There is nothing here"),
        ("get", "/admin/auth/user/", 403, "not open to your role"),
        ("post", "/admin/ask/", 403, "open for too long"),
        ("get", "/admin/history/", 500, "Something went wrong here"),
    ],
)
def test_error_pages_explain_the_error_in_words(
    method: str, path: str, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalogmatch.admin.history.history_page", lambda *_: 1 / 0)
    answer = getattr(signed_in(), method)(path)
    page = answer.content.decode()
    assert answer.status_code == status
    assert words in page
    assert 'href="/admin/"' in page
    assert "Traceback" not in page
    assert "style-src 'self'" in answer["Content-Security-Policy"]


def test_api_errors_are_problem_documents() -> None:
    answer = Client().get("/api/nothing")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
