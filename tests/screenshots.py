"""Take the screenshots of the documentation from a running demo.

``make demo`` in one terminal, then ``python -m tests.screenshots http://127.0.0.1:8000`` in another. It decides two
cases, asks one question and writes docs/img/. Look at each image before it is committed.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

ADMIN, PASSWORD = "admin", "demo"  # nosec B105: of the demo, public on purpose
CHROMIUM = "/usr/bin/chromium"
REPO = Path(__file__).resolve().parents[1]
FOLDER = REPO / "docs" / "img"
QUESTION = REPO / "catalogmatch" / "demo" / "images" / "DEMO-BAC-01-2.webp"
WIDE: ViewportSize = {"width": 1440, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
QUALITY = 82  # of WebP: text stays sharp
MAX_BYTES = 1_500_000  # of all images together


@dataclass(frozen=True, slots=True)
class Shot:
    """One image: the page, and how it is shown. ``asks``: with the answer to a question."""

    name: str
    path: str
    scheme: Literal["light", "dark"] = "light"
    size: Literal["wide", "narrow"] = "wide"
    asks: bool = False


CASE = "/admin/matching/match/case/?order=probability"
SHOTS = [
    Shot("home", "/admin/"),
    Shot("home-narrow", "/admin/", size="narrow"),
    Shot("upload", "/admin/products/product/add/"),
    Shot("import", "/admin/products/product/import/"),
    Shot("products", "/admin/products/product/"),
    Shot("review", CASE),
    Shot("review-dark", CASE, scheme="dark"),
    Shot("review-narrow", CASE, size="narrow"),
    Shot("review-narrow-dark", CASE, scheme="dark", size="narrow"),
    Shot("matches", "/admin/matching/match/?review_status__exact=pending"),
    Shot("agreement", "/admin/agreement/"),
    Shot("history", "/admin/history/"),
    Shot("ask", "/admin/ask/", asks=True),
    Shot("device", "/admin/device/"),
    Shot("models-dark", "/admin/models/", scheme="dark"),
    Shot("settings", "/admin/settings/"),
    Shot("api-dark", "/api/docs", scheme="dark"),
]


def take(address: str) -> None:
    """Take all screenshots and say how large they are. Raises SystemExit if they are too large together."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        state = _signed_in(browser, address)
        for shot in SHOTS:
            context = browser.new_context(
                base_url=address, storage_state=state, color_scheme=shot.scheme, reduced_motion="reduce",
                viewport=WIDE if shot.size == "wide" else NARROW,
            )  # fmt: skip
            _save(context.new_page(), shot)
            context.close()
        browser.close()
    total = sum(file.stat().st_size for file in FOLDER.iterdir())
    sys.stdout.write(f"{len(SHOTS)} images, {total:,} bytes in {FOLDER}\n")
    if total > MAX_BYTES:
        raise SystemExit(f"The images take more than {MAX_BYTES:,} bytes.")


def _signed_in(browser: Browser, address: str) -> Path:
    """Sign in, decide two cases so that pages have something to tell, and return the browser's state as a file."""
    page = browser.new_page(base_url=address, viewport=WIDE)
    page.goto("/admin/login/")
    page.fill("[name=username]", ADMIN)
    page.fill("[name=password]", PASSWORD)
    page.click("[type=submit]")
    page.goto(CASE)
    for key in ("Enter", "0"):
        before = page.locator("#case").get_attribute("data-product")
        page.keyboard.press(key)
        page.wait_for_function("(old) => document.querySelector('#case').dataset.product !== old", arg=before)
    file = REPO / "var" / "screenshots.json"
    file.parent.mkdir(exist_ok=True)
    page.context.storage_state(path=file)
    page.close()
    return file


def _save(page: Page, shot: Shot) -> None:
    page.goto(shot.path)
    if shot.asks:
        page.set_input_files("[name=images]", QUESTION)
        page.locator(".cm-answer").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready.then(() => 0)")
    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.save(FOLDER / f"{shot.name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    take(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
