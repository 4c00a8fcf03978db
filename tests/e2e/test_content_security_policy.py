"""The content security policy in a real browser: every page works, and injected markup runs no script."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from products.models import Product
from tests.e2e.conftest import SignIn

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]

# Pages of the libraries, besides those of test_accessibility. ``sign_in`` reports whatever the policy blocks.
PAGES = (
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/auth/user/{user}/change/",
    "/admin/auth/user/{user}/password/",
    "/admin/auth/group/",
    "/admin/password_change/",
    "/admin/products/product/?q=mug&is_historical__exact=1",
    "/admin/products/product/{product}/delete/",
    "/admin/products/product/{product}/history/",
)


def test_pages_work_under_the_policy(sign_in: SignIn) -> None:
    user = User.objects.create_user("colleague")
    page = sign_in("manager")
    for path in PAGES:
        page.goto(path.format(user=user.pk, product=Product.objects.latest("pk").pk))
        page.wait_for_load_state("networkidle")
        assert page.evaluate("typeof Alpine") == "object", path


def test_the_sign_in_page_works_under_the_policy(sign_in: SignIn) -> None:
    User.objects.create_superuser("root", password="right horse")
    page = sign_in("viewer")
    page.context.clear_cookies()
    page.goto("/admin/login/")
    page.fill("[name=username]", "root")
    page.fill("[name=password]", "right horse")
    page.click("[type=submit]")
    page.wait_for_url("**/admin/")


def test_the_api_page_works_under_the_policy(sign_in: SignIn) -> None:
    page = sign_in("viewer")
    page.goto("/api/docs")
    page.get_by_text("/api/products/upload").first.wait_for()
    page.locator("summary", has_text="/api/queue").click()
    page.locator("#queue_status, details[open]").get_by_role("link", name="Call it now").click()
    page.get_by_text("eta_seconds").wait_for()


def test_injected_markup_runs_no_script(sign_in: SignIn) -> None:
    page = sign_in("manager").context.new_page()  # a page outside the error check: it must log errors
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    page.goto("/admin/")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.inline = true";
        document.body.append(script);
        const picture = document.createElement("img");
        picture.setAttribute("onerror", "window.handler = true");
        picture.src = "data:,";
        document.body.append(picture);
        const foreign = document.createElement("script");
        foreign.src = "https://elsewhere.invalid/x.js";
        document.body.append(foreign);
    }""")
    page.wait_for_timeout(200)
    assert page.evaluate("[window.inline, window.handler]") == [None, None]
    assert sum("Content Security Policy" in text for text in refused) >= 3
