"""The page of an import takes back what it made and changed, and nothing else."""

from __future__ import annotations

import pytest
from django.test import Client

from matching.models import Match
from products.images import intake
from products.images.cleaning import Upload
from products.models import Import, Product, ProductImage
from tests.helpers.files import files_in
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import rows_as_csv
from tests.helpers.web.import_page import ImportPage, zipped

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = [
    {"sku": "MUG", "name": "Large mug", "description": "", "colour": "red", "size": "9", "image": "mug.jpg"},
    {"sku": "NEW", "name": "New", "description": "", "colour": "", "size": "", "image": "new.jpg"},
    {"sku": "NEWER", "name": "Newer", "description": "", "colour": "", "size": "", "image": "newer.jpg"},
]
FILES = {"mug.jpg": jpeg(1), "new.jpg": jpeg(2), "newer.jpg": jpeg(3)}


@pytest.fixture
def browser() -> Client:
    return browser_of("uploader")


def mug() -> Product:
    return intake.add_product(
        [Upload(jpeg(9), "old.jpg")], sku="MUG", name="Mug", attributes={"colour": "blue", "weight": 350}
    ).product


def imported(browser: Client) -> ImportPage:
    return ImportPage(browser, {"all.zip": zipped({"list.csv": rows_as_csv(ROWS), **FILES})}).confirm()


def test_import_is_taken_back_in_full(browser, media):
    product = mug()
    files = files_in(media)
    upload = imported(browser)
    product.refresh_from_db()
    assert (product.name, product.attributes) == ("Large mug", {"colour": "red", "weight": 350, "size": "9"})
    plan = upload.undo_plan()
    assert {kind: found["count"] for kind, found in plan.items()} == {
        "created": 2,
        "images": 1,
        "changed": 1,
        "kept": 0,
    }
    assert Product.objects.count() == 3
    upload.undo()
    assert list(Product.objects.all()) == [product]
    product.refresh_from_db()
    assert (product.name, product.attributes) == ("Mug", {"colour": "blue", "weight": 350})
    assert [image.original_name for image in product.images.all()] == ["old.jpg"]
    assert files_in(media) == files
    assert "Products deleted: 2. Images removed: 1." in browser.get(upload.page).content.decode()


def test_what_was_changed_since_stays_and_is_named(browser):
    product = mug()
    upload = imported(browser)
    intake.change_product(Product.objects.get(sku="MUG"), {"name": "Very large mug"})
    intake.change_product(Product.objects.get(sku="NEW"), {"description": "now described"})
    upload.undo()
    product.refresh_from_db()
    assert (product.name, product.attributes) == ("Very large mug", {"colour": "blue", "weight": 350})
    assert set(Product.objects.values_list("sku", flat=True)) == {"MUG", "NEW"}
    assert dict(Import.objects.get().undone["kept"]) == {
        "MUG": "name was changed after the import.",
        "NEW": "It was changed or decided on after the import.",
    }


def test_product_with_a_verdict_or_an_image_of_somebody_else_stays(browser):
    catalogue = make_product(sku="OLD", is_historical=True)
    upload = imported(browser)
    new, newer = Product.objects.get(sku="NEW"), Product.objects.get(sku="NEWER")
    Match.objects.filter(product=new).delete()
    Match.objects.create(
        product=new, candidate=catalogue, similarity_score=90, feature_type="legacy", model_name="m", rank=1, note="ask"
    )
    intake.add_images(newer, [Upload(jpeg(30), "more.jpg")])
    upload.undo()
    assert {"NEW", "NEWER"} <= set(Product.objects.values_list("sku", flat=True))
    assert newer.images.count() == 2


def test_long_text_that_the_history_keeps_only_in_part_stays(browser):
    text = "old text " * 400
    intake.change_product(mug(), {"description": text})
    rows = [{"sku": "MUG", "description": "short"}]
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows)}).confirm().undo()
    assert Product.objects.get().description == "short"
    [[label, reason]] = Import.objects.get().undone["kept"]
    assert (label, reason) == ("MUG", "description was too long for the history to keep it whole.")
    assert reason in browser.get(upload.page).content.decode()


def test_only_the_import_itself_is_taken_back_and_only_once(browser):
    first = ImportPage(browser, {"a.zip": zipped({"A.jpg": jpeg(1)})}).confirm()
    ImportPage(browser, {"b.zip": zipped({"B.jpg": jpeg(2)})}).confirm()
    first.undo()
    assert list(Product.objects.values_list("sku", flat=True)) == ["B"]
    again = ImportPage(browser, {"a.zip": zipped({"A.jpg": jpeg(1)})}).confirm()
    first.undo()
    assert set(Product.objects.values_list("sku", flat=True)) == {"A", "B"}
    again.undo()
    assert ProductImage.objects.count() == 1


def test_stopped_undo_is_resumed(browser, monkeypatch):
    mug()
    upload = imported(browser)
    monkeypatch.setattr("products.importing.undo._restore", lambda *_: 1 / 0)
    upload.undo()
    assert Import.objects.get().state == "failed"
    monkeypatch.undo()
    upload.undo()
    assert Import.objects.get().state == "undone"
    assert Product.objects.get().name == "Mug"


def test_viewer_and_others_cannot_take_it_back(browser):
    upload = imported(browser)
    assert browser_of("viewer").post(f"{upload.page}undo/").status_code == 403
    assert browser_of("manager").post(f"{upload.page}undo/").status_code == 404
    assert Product.objects.count() == 3
