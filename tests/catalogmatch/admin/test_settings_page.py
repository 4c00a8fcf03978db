"""The page Settings: managers change preferences, the page says who did, and nothing is overwritten unseen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django import forms
from django.contrib.auth.models import User
from django.test import Client

from products import preferences
from products.models import PreferenceChange
from products.preferences import Preference
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of

pytestmark = pytest.mark.django_db
URL = "/admin/settings/"
NAME = "test.share"


@pytest.fixture
def share() -> Iterator[Preference[int]]:
    """A preference between 1 and 100, declared for the test only."""
    yield preferences.declare(NAME, "Tests", 50, lambda: forms.IntegerField(label="Share", min_value=1, max_value=100))
    del preferences._declared[NAME]


@pytest.fixture
def manager() -> Client:
    return browser_of(user_in("manager"))


def form_with(client: Client, **values: object) -> dict[str, object]:
    """Return what a browser would send: the shown values with these instead."""
    shown = client.get(URL).context
    return {**shown["form"].initial, "seen": shown["seen"], **values}


def test_manager_changes_a_preference_and_the_page_says_who(share: Preference[int], manager: Client) -> None:
    assert preferences.value(share) == 50
    response = manager.post(URL, form_with(manager, **{NAME: 80}), follow=True)
    assert "1 setting saved." in response.content.decode()
    assert preferences.value(share) == 80
    change = PreferenceChange.objects.get(name=NAME)
    assert (change.value, change.changed_by and change.changed_by.get_username()) == (80, "manager")
    assert response.context["changes"] == [(change, "Share")]


def test_equal_values_are_no_change(share: Preference[int], manager: Client) -> None:
    response = manager.post(URL, form_with(manager, **{NAME: 50}), follow=True)
    assert "Nothing was changed." in response.content.decode()
    assert not PreferenceChange.objects.exists()


@pytest.mark.parametrize("wrong", ["0", "101", "many", "", "9" * 5000, "NaN"])
def test_value_out_of_bounds_changes_nothing(share: Preference[int], manager: Client, wrong: str) -> None:
    response = manager.post(URL, form_with(manager, **{NAME: wrong}))
    assert response.status_code == 400
    assert "Nothing was saved." in response.content.decode()
    assert preferences.value(share) == 50


def test_change_of_another_manager_is_not_overwritten(share: Preference[int], manager: Client) -> None:
    stale = form_with(manager, **{NAME: 60})
    preferences.change({NAME: 70}, User.objects.create(username="other"))
    response = manager.post(URL, stale, follow=True)
    assert "other has changed the settings meanwhile." in response.content.decode()
    assert preferences.value(share) == 70


@pytest.mark.usefixtures("share")
def test_reviewers_cannot_see_or_change_settings() -> None:
    reviewer = browser_of(user_in("reviewer"))
    assert reviewer.get(URL).status_code == 403
    assert reviewer.post(URL, {NAME: 60, "seen": 0}).status_code == 403


def test_stored_value_that_is_no_longer_allowed_counts_as_not_set(share: Preference[int]) -> None:
    preferences.change({NAME: 90}, None)
    PreferenceChange.objects.update(value=1000)
    assert preferences.value(share) == 50
