"""Every link, button and action that a page offers to a role may be used by that role."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.test import Client

from catalogmatch.accounts.roles import ROLES
from products.models import ProductImage
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_case, make_product
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db

NOT_FOLLOWED = ("/admin/logout/", "/static/", "/api/docs", "/admin/sign-out/")
PRODUCTS, MATCHES = "/admin/products/product/", "/admin/matching/match/"


class Offers(HTMLParser):
    """The links of a page, and the addresses of its forms that have a submit button."""

    def __init__(self, address: str, page: str) -> None:
        super().__init__()
        self.address = address
        self.links: set[str] = set()
        self.forms: set[str] = set()
        self._form = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.links |= {self._path(given[name]) for name in ("href", "hx-get") if tag != "link" and name in given}
        if tag == "form":
            self._form = self._path(given.get("action", "")) if given.get("method", "").lower() == "post" else ""
        elif self._form and given.get("type", "submit" if tag == "button" else "") == "submit":
            self.forms.add(self._form)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = ""

    def _path(self, href: str) -> str:
        parts = urlsplit(urljoin(self.address, href))
        return parts.path + (f"?{parts.query}" if parts.query else "") if not parts.netloc else ""


def kind(address: str) -> str:
    """Return the address without numbers and query, so that similar pages are visited once."""
    return re.sub(r"\d+", "0", urlsplit(address).path)


@pytest.fixture(autouse=True)
def catalogue() -> None:
    """Create review cases, a failed image, a product without matches, and users."""
    make_case(91, 72, sku="NEW-1", category="mugs", attributes={"colour": "blue"})
    make_case(60)
    make_product("failed", "pending", name="broken")
    for image in ProductImage.objects.all():
        for name in (str(image.file.name), image.thumbnail_name):
            default_storage.save(name, ContentFile(jpeg(1)))
    for role in ROLES:
        user_in(role)


def walk(browser: Client) -> dict[str, tuple[int, str]]:
    """Follow one link of each kind from the home page. Return address → (status, page with the link)."""
    seen: dict[str, tuple[int, str]] = {}
    kinds: set[str] = set()
    to_visit = [("/admin/", "")]
    while to_visit:
        address, source = to_visit.pop(0)
        if not address or kind(address) in kinds or address.startswith(NOT_FOLLOWED):
            continue
        kinds.add(kind(address))
        response = browser.get(address, follow=True)
        seen[address] = response.status_code, source
        if (
            response.status_code != 200
            or not response.headers["Content-Type"].startswith("text/html")
            or response.streaming
        ):
            continue
        here = response.redirect_chain[-1][0] if response.redirect_chain else address
        offers = Offers(here, response.content.decode())
        to_visit += [(link, address) for link in sorted(offers.links)]
        for form in sorted(offers.forms):
            if not form.startswith(NOT_FOLLOWED):
                with transaction.atomic():
                    seen[f"POST {form}"] = browser.post(form).status_code, address
                    transaction.set_rollback(True)
    return seen


@pytest.mark.parametrize("role", ROLES)
def test_every_link_and_button_of_a_role_may_be_used(role: str) -> None:
    seen = walk(browser_of(role))
    assert {address: found for address, found in seen.items() if found[0] in (401, 403, 404) or found[0] >= 500} == {}
    assert len(seen) > 12  # the walk reached more than the home page


@pytest.mark.parametrize("role", ROLES)
def test_home_offers_the_work_of_the_role(role: str) -> None:
    seen = walk(browser_of(role))
    uploads = role in ("uploader", "manager")
    assert (f"{PRODUCTS}add/" in seen) == uploads
    assert any("/auth/user/" in address for address in seen) == (role == "manager")
    assert any(address.startswith("POST") and "decide" in address for address in seen) == (
        role in ("reviewer", "manager")
    )


@pytest.mark.parametrize(
    ("role", "of_products", "of_matches"),
    [
        ("viewer", set(), set()),
        ("uploader", {"match_now", "embed_again", "delete_selected"}, set()),
        ("reviewer", set(), {"confirm", "reject", "take_back"}),
        (
            "manager",
            {"match_now", "embed_again", "delete_selected"},
            {"confirm", "reject", "take_back", "delete_selected"},
        ),
    ],
)
def test_list_offers_the_actions_of_the_role(role: str, of_products: set[str], of_matches: set[str]) -> None:
    browser = browser_of(role)
    for address, expected in ((PRODUCTS, of_products), (MATCHES, of_matches)):
        form = browser.get(address).context["action_form"]
        offered = {name for name, _label in form.fields["action"].choices if name} if form else set()
        assert {name for name in offered if not name.startswith("export")} == expected
