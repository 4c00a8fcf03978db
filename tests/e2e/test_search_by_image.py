"""Search by image in a real browser: with a dropped file or a pasted image, and saved as a product."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from playwright.sync_api import Page, expect
from pytest_django import Settings

from gpu import clip
from products.models import Product
from tests.conftest import use_clip
from tests.e2e.conftest import SignIn, photograph, save_screenshot
from tests.gpu.text.small_models import image_only_model, turn_texts_to_images

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]

# Put the image into the clipboard like a screenshot.
COPY = """
async (data) => {
    const image = new Image();
    image.src = "data:image/jpeg;base64," + data;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").drawImage(image, 0, 0);
    const png = await canvas.convertToBlob({type: "image/png"});
    await navigator.clipboard.write([new ClipboardItem({"image/png": png})]);
}
"""

Give = Callable[[Page, bytes], None]


@pytest.fixture
def drop(tmp_path: Path) -> Give:
    """Return a function that drops a file on the image field, with the events of a browser."""

    def drop(page: Page, data: bytes) -> None:
        file = tmp_path / "from elsewhere.jpg"
        file.write_bytes(data)
        place = page.locator("[data-dropzone]").bounding_box()
        assert place is not None
        where = {"x": place["x"] + place["width"] / 2, "y": place["y"] + 20}
        carried = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        browser = page.context.new_cdp_session(page)
        for kind in ("dragEnter", "dragOver", "drop"):
            browser.send("Input.dispatchDragEvent", {"type": kind, **where, "data": carried})

    return drop


@pytest.fixture
def paste() -> Give:
    """Return a function that copies an image and pastes it with the keyboard."""

    def paste(page: Page, data: bytes) -> None:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.evaluate(COPY, base64.b64encode(data).decode())
        page.keyboard.press("Control+V")

    return paste


@pytest.fixture
def with_words(catalogue: list[Product], own_clip: Path, settings: Settings, tmp_path: Path) -> Iterator[None]:
    """Embed the catalogue with a model that has a text encoder."""
    turn_texts_to_images(own_clip)
    use_clip(settings, own_clip, tmp_path / "cache")
    call_command("reindex", "--missing")
    yield
    clip.unload()


@pytest.fixture
def without_text_encoder(settings: Settings, tmp_path: Path) -> None:
    use_clip(settings, image_only_model(tmp_path / "eyes"), tmp_path / "cache")


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_query_image_is_searched_and_saved_as_a_product(
    sign_in: SignIn, way: str, request: pytest.FixtureRequest
) -> None:
    give: Give = request.getfixturevalue(way)
    page = sign_in("manager")
    before = Product.objects.count()
    page.goto("/admin/ask/")
    give(page, photograph(3, angle=4))
    expect(page.locator(".cm-answer .cm-name").first).to_have_text("product 3")
    save_screenshot(page, "ask")
    assert Product.objects.count() == before

    page.get_by_label("Lowest score").fill("100")
    expect(page.get_by_text("No product of the catalogue reaches")).to_be_visible()
    page.get_by_role("button", name="Save as a new product").click()
    expect(page.get_by_text("The product was added.")).to_be_visible()
    assert Product.objects.count() == before + 1


def test_category_narrows_the_results(sign_in: SignIn, drop: Give) -> None:
    Product.objects.filter(name="product 2").update(category="lamps")
    page = sign_in("viewer")
    page.goto("/admin/ask/")
    drop(page, photograph(3, angle=4))
    expect(page.locator(".cm-answer .cm-name").first).to_have_text("product 3")
    page.get_by_label("Lowest score").fill("0")
    expect(page.locator(".cm-answer")).to_have_count(4)
    page.get_by_label("Only in category").select_option("lamps")
    expect(page.locator(".cm-answer .cm-name")).to_have_text(["product 2"])
    expect(page.get_by_role("button", name="Save as a new product")).to_have_count(0)


def test_a_phone_offers_its_camera(sign_in: SignIn) -> None:
    page = sign_in("viewer", viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto("/admin/ask/")
    # Phones offer the camera for this file type.
    assert "image/*" in (page.get_by_label("Image", exact=True).get_attribute("accept") or "").split(",")


def test_page_says_why_a_file_is_rejected(sign_in: SignIn, drop: Give) -> None:
    page = sign_in("viewer")
    page.goto("/admin/ask/")
    drop(page, b"text")
    expect(page.locator("#results").get_by_role("alert")).to_contain_text("The file is not an image.")


def test_words_alone_and_with_an_image_find_products(sign_in: SignIn, drop: Give, with_words: None) -> None:
    page = sign_in("viewer")
    page.goto("/admin/ask/")
    weight = page.get_by_label("Share of the image")
    expect(weight).to_be_hidden()
    page.get_by_label("Words", exact=True).fill("a blue mug")
    page.keyboard.press("Enter")
    expect(page.locator(".cm-answer")).to_have_count(4)
    expect(page.locator("#threshold-value")).to_have_text("0")
    with page.expect_response("**/admin/ask/"):
        drop(page, photograph(3, angle=4))
    expect(weight).to_be_visible()
    expect(page.locator("#searching")).not_to_have_class(re.compile("htmx-request"))
    weight.fill("0.9")
    expect(page.locator(".cm-answer .cm-name").first).to_have_text("product 3")
    save_screenshot(page, "ask-words")


def test_page_says_why_words_cannot_be_searched(sign_in: SignIn, without_text_encoder: None) -> None:
    page = sign_in("viewer")
    page.goto("/admin/ask/")
    expect(page.get_by_label("Words", exact=True)).to_be_disabled()
    expect(page.get_by_text("has no text encoder")).to_be_visible()
