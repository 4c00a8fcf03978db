"""The project's pages: no axe violation by any default rule, light and dark, wide and narrow, and no overflow."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from playwright.sync_api import Page, ViewportSize

from matching.models import Match
from products.models import Product
from tests.e2e.conftest import SignIn, save_screenshot
from tests.helpers.accounts import user_in

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]

SIZES: dict[str, ViewportSize] = {"wide": {"width": 1440, "height": 900}, "narrow": {"width": 390, "height": 844}}
PAGES = {
    "home": "/admin/",
    "products": "/admin/products/product/",
    "no products": "/admin/products/product/?q=nothing-has-this",
    "product": "/admin/products/product/{arrival}/change/",
    "product deletion": "/admin/products/product/{arrival}/delete/",
    "product history": "/admin/products/product/{arrival}/history/",
    "upload": "/admin/products/product/add/",
    "import": "/admin/products/product/import/",
    "matches": "/admin/matching/match/",
    "match history": "/admin/matching/match/{match}/history/",
    "case": "/admin/matching/match/case/{arrival}/",
    "duplicates": "/admin/duplicates/",
    "merge": "/admin/merge/?keep={candidate}&other={arrival}",
    "ask": "/admin/ask/",
    "history": "/admin/history/",
    "device": "/admin/device/",
    "models": "/admin/models/",
    "agreement": "/admin/agreement/",
    "settings": "/admin/settings/",
    "policy": "/admin/policy/",
    "policy-edit": "/admin/policy/edit/?category=",
    "quality": "/admin/quality/",
    "tokens": "/admin/tokens/",
    "users": "/admin/auth/user/",
    "user": "/admin/auth/user/{user}/change/",
    "new user": "/admin/auth/user/add/",
    "user password": "/admin/auth/user/{user}/password/",
    "roles": "/admin/auth/group/",
    "role": "/admin/auth/group/{role}/change/",
    "password": "/admin/password_change/",
    "forgotten password": "/admin/password_reset/",
    "mail sent": "/admin/password_reset/sent/",
    "bad link": "/admin/reset/MQ/bad-link/",
    "password saved": "/admin/reset/done/",
    "not found": "/admin/products/product/999999/change/",
    "no such page": "/nothing-here",
    "API": "/api/docs",
}


def address(name: str) -> str:
    arrival = Product.objects.get(name="arrival")
    match = Match.objects.filter(product=arrival).first()
    viewer = user_in("viewer")
    assert match is not None
    role = viewer.groups.get()
    return PAGES[name].format(
        arrival=arrival.pk, candidate=match.candidate_id, match=match.pk, user=viewer.pk, role=role.pk
    )


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe finds with its default rules, and how far the page is too wide."""
    found = [
        (one["id"], [node["html"][:300] for node in one["nodes"]]) for one in Axe().run(page).response["violations"]
    ]
    width = page.viewport_size["width"] if page.viewport_size else 0
    too_wide = page.evaluate("document.documentElement.scrollWidth") - width
    return found + ([("overflow", [f"{too_wide} pixels"])] if too_wide > 0 else [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("names", [list(PAGES)[part::2] for part in range(2)], ids=["some", "others"])
def test_no_page_has_an_axe_violation(sign_in: SignIn, names: list[str], scheme: str) -> None:
    page = sign_in("manager", reduced_motion="reduce", color_scheme=scheme)
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for name in names:
        page.goto(address(name))
        page.evaluate("document.fonts.ready.then(() => 0)")
        for size, pixels in SIZES.items():
            page.set_viewport_size(pixels)
            save_screenshot(page, f"{name}-{scheme}-{size}")
            found |= {f"{name}, {size}": problems} if (problems := violations(page)) else {}
    assert found == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_sign_in_has_no_axe_violation(sign_in: SignIn, scheme: str) -> None:
    page = sign_in("manager", color_scheme=scheme, reduced_motion="reduce")
    page.context.clear_cookies()
    page.goto("/admin/login/")
    assert violations(page) == []
    assert User.objects.exists()
