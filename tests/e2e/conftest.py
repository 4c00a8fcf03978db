"""A real browser on a live server: signed-in users, a small catalogue, and a check for errors of the pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from products.images.cleaning import Upload
from products.images.intake import add_images, add_product
from products.models import Product
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).resolve().parents[2] / "var" / "screenshots"

SignIn = Callable[..., Page]


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return {"executable_path": str(CHROMIUM), "args": ["--no-sandbox"]}


@pytest.fixture
def sign_in(browser: Browser, live_server: Any) -> Iterator[SignIn]:
    """Return ``sign_in(role, **options)``, which opens a page for a user in that role.

    The options go to the browser context. After the test, no page may have raised or logged an error, or have called
    another host.
    """
    problems: list[str] = []
    contexts: list[BrowserContext] = []

    def on_console(message: ConsoleMessage) -> None:
        # A request that the test itself aborts gets ERR_FAILED.
        if message.type == "error" and not any(
            expected in message.text for expected in ("status of 4", "net::ERR_FAILED")
        ):
            problems.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith((live_server.url, "data:", "blob:")):
            problems.append(f"called another host: {request.url}")

    def sign_in(role: str, **options: Any) -> Page:
        session = browser_of(role).cookies[settings.SESSION_COOKIE_NAME].value
        context = browser.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", on_console)
        page.on("request", on_request)
        return page

    yield sign_in
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def catalogue(live_server: Any) -> list[Product]:
    """Create four historical products and a new one that shows the first.

    The first has two images, and the last looks much like it.
    """
    products = [
        add_product(
            [Upload(photograph(seed, angle))], sku=f"OLD-{seed}{angle}", name=f"product {seed}{'b' if angle else ''}",
            category="mugs", is_historical=True, attributes={"colour": "blue"},
        ).product
        for seed, angle in ((1, 0), (2, 0), (3, 0), (1, 90))
    ]  # fmt: skip
    add_images(products[0], [Upload(photograph(1, angle=20))])
    add_product([Upload(photograph(1, angle=6))], sku="NEW-1", name="arrival", attributes={"colour": "red"})
    return products


def photograph(seed: int, angle: float = 0.0) -> bytes:
    return jpeg(seed, (320, 320), angle=angle)


def save_screenshot(page: Page, name: str) -> None:
    """Save a screenshot of the page, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
