"""Why a match has its score, in a real browser: the dialog of the review page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core.management import call_command
from playwright.sync_api import expect
from pytest_django import Settings

from gpu import clip
from matching import explanation
from products.models import Product
from tests.conftest import use_clip
from tests.e2e.conftest import SignIn, save_screenshot

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def embedded(catalogue: list[Product], tiny_clip: Path, settings: Settings, tmp_path: Path) -> Iterator[None]:
    explanation.forget()
    use_clip(settings, tiny_clip, tmp_path / "cache")
    call_command("reindex", "--missing")
    call_command("match_products", "--all")
    yield
    clip.unload()


@pytest.mark.parametrize(("size", "scheme"), [((1440, 900), "light"), ((390, 844), "dark")])
def test_reviewer_sees_why_a_match_has_its_score(
    sign_in: SignIn, embedded: None, size: tuple[int, int], scheme: str
) -> None:
    page = sign_in("reviewer", viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.goto("/admin/matching/match/case/")
    candidate = page.locator(".cm-candidate").first
    page.keyboard.press("e")  # while the candidate's radio button has the focus, as after each step
    dialog = page.get_by_role("dialog", name="Why this score")
    expect(dialog.locator("canvas")).to_have_count(2)
    expect(dialog.get_by_role("row")).to_have_count(1)
    save_screenshot(page, f"explanation-{size[0]}-{scheme}")
    violations = Axe().run(page, context="#explanation").response["violations"]
    assert violations == [], violations
    page.keyboard.press("0")  # decides nothing behind the dialog
    expect(page.locator('[data-count="today"]')).to_have_text("0")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    candidate.get_by_role("button", name="Why").click()
    expect(dialog.locator("canvas")).to_have_count(2)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_dialog_says_why_there_is_no_heat_map(sign_in: SignIn, catalogue: list[Product]) -> None:
    explanation.forget()
    page = sign_in("viewer")
    page.goto("/admin/matching/match/case/")
    page.locator(".cm-candidate").first.get_by_role("button", name="Why").click()
    dialog = page.get_by_role("dialog", name="Why this score")
    expect(dialog.get_by_text("The regions that match cannot be shown.")).to_be_visible()
    expect(dialog.get_by_role("row")).to_have_count(4)
