"""Take the screenshots of the documentation.

Run ``make demo`` in one shell, then ``python docs/screenshots.py`` in another. The script uses the demo catalogue on
port $PORT (8000 by default) and confirms one match. It uses the installed Chromium, or else Playwright's own.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

URL = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
TARGET = Path(__file__).resolve().parent / "img"


def save_screenshot(page: Page, name: str) -> None:
    """Save the visible part of the page."""
    page.wait_for_load_state("networkidle")
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(TARGET / f"{name}.png", optimize=True)


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(base_url=URL, viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.goto("/admin/login/?next=/admin/products/product/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill("demo")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/admin/products/product/")
        save_screenshot(page, "products")

        page.goto("/admin/matching/match/?review_status__exact=pending")
        save_screenshot(page, "matches")
        page.goto("/admin/matching/match/case/")
        page.wait_for_load_state("networkidle")
        save_screenshot(page, "review")
        address = page.locator(".cm-asked .cm-stage img").first.get_attribute("data-full")
        query_image = page.request.get(address or "").body()

        page.goto("/admin/ask/")
        photo = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": query_image}
        page.locator('input[type="file"]').set_input_files(photo)
        page.locator(".cm-answer").first.wait_for()
        save_screenshot(page, "ask")

        exported = (
            page.request.get("/admin/products/product/export.csv?is_historical__exact=1").body().decode("utf-8-sig")
        )
        header, *rows = list(csv.reader(io.StringIO(exported)))[:40]
        for number in (1, 4, 5, 9):
            rows[number][header.index("name")] += ", large"
        rows[-1][header.index("sku")] = "not there yet"
        table = io.StringIO()
        csv.writer(table).writerows([header, *rows])
        page.goto("/admin/products/product/import/")
        file = {"name": "autumn.csv", "mimeType": "text/csv", "buffer": table.getvalue().encode()}
        page.locator('input[type="file"]').first.set_input_files(file)
        page.get_by_role("button", name="Show what would change").click()
        page.get_by_role("link", name="changed products").first.click()
        page.wait_for_url("**kind=UPDATED")
        save_screenshot(page, "import")
        page.get_by_role("button", name="Discard").click()

        for name, path in (
            ("device", "/admin/device/"),
            ("upload", "/admin/products/product/add/"),
            ("home", "/admin/"),
        ):
            page.goto(path)
            save_screenshot(page, name)
        page.emulate_media(color_scheme="dark")
        page.goto("/admin/matching/match/case/")
        save_screenshot(page, "review-dark")
        browser.close()


if __name__ == "__main__":
    main()
