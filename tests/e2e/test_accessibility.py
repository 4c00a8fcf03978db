"""The project's own pages: no axe violation in light and dark, and no overflow at a width of 390 pixels."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from products.models import Product
from tests.e2e.conftest import SignIn, save_screenshot

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}

PAGES = {
    "home": "/admin/",
    "products": "/admin/products/product/",
    "product": "/admin/products/product/{arrival}/change/",
    "upload": "/admin/products/product/add/",
    "matches": "/admin/matching/match/",
    "case": "/admin/matching/match/case/{arrival}/",
    "ask": "/admin/ask/",
    "device": "/admin/device/",
    "policy": "/admin/policy/",
    "policy-edit": "/admin/policy/edit/?category=",
    "quality": "/admin/quality/",
    "tokens": "/admin/tokens/",
}


def address(name: str) -> str:
    return PAGES[name].format(arrival=Product.objects.get(name="arrival").pk)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_axe_violations(sign_in: SignIn, name: str, scheme: str) -> None:
    page = sign_in("manager", color_scheme=scheme, reduced_motion="reduce")
    page.goto(address(name))
    page.wait_for_load_state("networkidle")
    save_screenshot(page, f"{name}-{scheme}")
    found = Axe().run(page, options=WCAG).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(sign_in: SignIn, name: str) -> None:
    page = sign_in("manager", viewport={"width": 390, "height": 844})
    page.goto(address(name))
    page.wait_for_load_state("networkidle")
    save_screenshot(page, f"{name}-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
