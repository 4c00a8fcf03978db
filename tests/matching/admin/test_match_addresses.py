"""Addresses of matches that cannot exist."""

from __future__ import annotations

import pytest

from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("object_id", ["next", "0", "-1", "9" * 30, "1e3", "é"])
def test_match_that_cannot_exist_is_not_found(object_id: str) -> None:
    browser = browser_of(user_in("reviewer"))
    assert browser.get(f"/admin/matching/match/{object_id}/change/").status_code == 404
