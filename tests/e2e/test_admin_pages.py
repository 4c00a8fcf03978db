"""All other admin pages, including those of the libraries: no axe violation in light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Group, User
from playwright.sync_api import Page

from matching.models import Match, ModelJob
from matching.review import verdicts
from products.images import intake
from products.models import Deletion, Product, ProductImage
from tests.e2e.conftest import SignIn, save_screenshot
from tests.helpers.accounts import user_in
from tests.helpers.web.routes import LEARNED

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]

PAGES = {
    "users": "/admin/auth/user/",
    "user": "/admin/auth/user/{user}/change/",
    "user-new": "/admin/auth/user/add/",
    "user-password": "/admin/auth/user/{user}/password/",
    "user-history": "/admin/auth/user/{user}/history/",
    "user-delete": "/admin/auth/user/{user}/delete/",
    "roles": "/admin/auth/group/",
    "role": "/admin/auth/group/{group}/change/",
    "password": "/admin/password_change/",
    "password-changed": "/admin/password_change/done/",
    "products-none": "/admin/products/product/?q=nothing+is+called+that",
    "matches-none": "/admin/matching/match/?review_status__exact=rejected",
    "product-delete": "/admin/products/product/{product}/delete/",
    "product-history": "/admin/products/product/{product}/history/",
    "match-history": "/admin/matching/match/{match}/history/",
    "match-delete": "/admin/matching/match/{match}/delete/",
    "history": "/admin/history/",
    "history-none": "/admin/history/?what=deleted",
    "deletion": "/admin/products/product/deletion/{deletion}/",
    "models": "/admin/models/",
    "model-switch": "/admin/models/switch/?version=encoder",
    "model-learned": "/admin/models/jobs/{learned}/",
    "model-compared": "/admin/models/jobs/{compared}/",
    "model-stopped": "/admin/models/jobs/{stale}/",
    "app": "/admin/products/",
    "not-found": "/admin/nothing/here/",
}


@pytest.fixture
def ids() -> dict[str, object]:
    """Create a product with a history, a match with a verdict, a user, a role and a deletion."""
    product = Product.objects.get(name="arrival")
    intake.change_product(product, {"name": "arrival, renamed", "description": "long " * 200, "category": "mugs"})
    match = Match.objects.filter(product=product)[0]
    verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"), "the same handle")
    return {
        "learned": ModelJob.objects.create(kind="train", state="done", report=LEARNED).pk,
        "compared": compared_versions(product).pk,
        "stale": ModelJob.objects.create(kind="train", total=900, done=400, heartbeat_at="2020-01-01T00:00:00Z").pk,
        "product": product.pk, "match": match.pk, "user": User.objects.create_user("colleague").pk,
        "group": Group.objects.get(name="viewer").pk,
        "deletion": Deletion.objects.create(
            user=user_in("manager"), label="products.Product", state="stopped", total=200, done=40,
            counts={"products.Product": 40},
        ).pk,
    }  # fmt: skip


def compared_versions(product: Product) -> ModelJob:
    """Create a comparison whose pairs have images."""
    image = product.images.get().pk
    others = ProductImage.objects.exclude(pk=image).order_by("pk").values_list("pk", flat=True)
    pairs = [
        {
            "image": image,
            "right_image": right,
            "found_image": others[0],
            "product": product.pk,
            "rank_a": 3,
            "rank_b": 1,
        }
        for right in others[1:4]
    ]
    recall = {name: {"value": 0.52, "low": 0.49, "high": 0.56} for name in ("recall@1", "recall@5", "recall@10")}
    views = {
        "name": "views", "queries": 891, "products": 81, "gallery_products": 81, "a": recall, "b": recall,
        "difference": recall, "better": "b", "gained": 61, "lost": 1, "gained_pairs": pairs, "lost_pairs": pairs[:1],
        "scores": {"a": 71.5, "b": 66.0, "shift": -5.5, "a_above_threshold": 0.98, "b_above_threshold": 0.95},
    }  # fmt: skip
    cost = {"dimensions": 300, "bytes_per_vector": 1200, "ms_per_query": 0.8}
    names = {"a": "legacy-1", "b": "head-3f9c1de0a713"}
    report = {**names, "sets": [views], "cost": {"a": cost, "b": cost}, "refused": []}
    return ModelJob.objects.create(kind="compare", state="done", options=names, report=report)


def violations(page: Page) -> list[Any]:
    found = Axe().run(page).response["violations"]
    return [(one["id"], [(node["html"][:200], node["failureSummary"]) for node in one["nodes"]]) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_other_pages_have_no_axe_violations(sign_in: SignIn, ids: dict[str, object], scheme: str) -> None:
    page = sign_in("manager", color_scheme=scheme, reduced_motion="reduce")
    User.objects.filter(username="manager").update(is_superuser=True)
    found = {}
    for name, path in PAGES.items():
        page.goto(path.format(**ids))
        page.wait_for_load_state("networkidle")
        save_screenshot(page, f"{name}-{scheme}")
        found[name] = violations(page)
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_after_a_form_was_sent_have_no_axe_violations(
    sign_in: SignIn, ids: dict[str, object], scheme: str
) -> None:
    found = {}
    page = sign_in("manager", color_scheme=scheme, reduced_motion="reduce")

    def look(name: str) -> None:
        page.wait_for_load_state("networkidle")
        save_screenshot(page, f"{name}-{scheme}")
        found[name] = violations(page)

    page.goto("/admin/products/product/")
    page.locator("input.action-select").first.check()
    look("products-chosen")
    page.locator("select[name=action]").select_option("delete_selected")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Yes, delete").wait_for()
    look("delete-selected")

    page.goto(f"/admin/products/product/{ids['product']}/change/")
    page.get_by_label("GTIN").fill("123")
    page.get_by_role("button", name="Save", exact=True).click()
    look("product-refused")

    page.goto("/admin/password_change/")
    page.locator("#content-main [type=submit], form [type=submit]").last.click()
    look("password-refused")

    page.goto("/admin/")
    page.evaluate("document.getElementById('logout-form').submit()")
    look("logged-out")
    page.goto("/admin/login/")
    look("login")
    page.fill("[name=username]", "nobody")
    page.fill("[name=password]", "wrong")
    page.click("[type=submit]")
    look("login-refused")
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_error_pages_have_no_axe_violations(
    sign_in: SignIn, ids: dict[str, object], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    page = sign_in(
        "viewer", color_scheme=scheme
    ).context.new_page()  # a page outside the error check: it must log errors
    monkeypatch.setattr("catalogmatch.admin.history.history_page", lambda *_: 1 / 0)
    for name, path in {"forbidden": "/admin/auth/user/", "broken": "/admin/history/", "absent": "/nothing"}.items():
        page.goto(path)
        save_screenshot(page, f"{name}-{scheme}")
        found[name] = violations(page)
    page.goto("/admin/")
    page.context.clear_cookies(name="csrftoken")
    page.evaluate("document.getElementById('logout-form').submit()")
    page.wait_for_load_state("networkidle")
    save_screenshot(page, f"forged-{scheme}")
    found["forged"] = violations(page)
    assert {name: what for name, what in found.items() if what} == {}
