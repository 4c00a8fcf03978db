"""Files that are named after their view, and folders of such files, are images of one product."""

from __future__ import annotations

import pytest

from products.models import Product
from tests.helpers.commands import run
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_images
from tests.helpers.web.import_page import ImportPage, zipped


def products() -> dict[str, list[str]]:
    """Return the names of the images by SKU, in the order of the views."""
    return {
        product.sku: [image.original_name for image in product.images.order_by("position")]
        for product in Product.objects.order_by("sku")
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["A/1.jpg", "A/2.jpg", "B/1.jpg"], {"A": ["1.jpg", "2.jpg"], "B": ["1.jpg"]}),
        (["A/back.jpg", "A/front.jpg", "B/x1.jpg"], {"A": ["front.jpg", "back.jpg"], "x1": ["x1.jpg"]}),
        (["A/IMG_21.jpg", "A/IMG_22.jpg", "B/DSC01.jpg"], {"A": ["IMG_21.jpg", "IMG_22.jpg"], "B": ["DSC01.jpg"]}),
        (["A/A_1.jpg", "A/A_2.jpg", "B/B.jpg"], {"A": ["A_1.jpg", "A_2.jpg"], "B": ["B.jpg"]}),
        (["m/7_1.jpg", "m/7_2.jpg", "m/8.jpg", "m/8_1.jpg"], {"7": ["7_1.jpg", "7_2.jpg"], "8": ["8.jpg", "8_1.jpg"]}),
        (["T.jpg", "T-front.jpg", "T-hinten.jpg"], {"T": ["T.jpg", "T-front.jpg", "T-hinten.jpg"]}),
        (["T.jpg", "T (2).jpg", "T (3).jpg"], {"T": ["T.jpg", "T (2).jpg", "T (3).jpg"]}),
        (["AB-12.jpg", "AB-13.jpg"], {"AB-12": ["AB-12.jpg"], "AB-13": ["AB-13.jpg"]}),
        (["IMG_01.jpg", "IMG_02.jpg"], {"IMG_01": ["IMG_01.jpg"], "IMG_02": ["IMG_02.jpg"]}),
        (["m/101.jpg", "m/102.jpg"], {"101": ["101.jpg"], "102": ["102.jpg"]}),
    ],
)  # fmt: skip
def test_views_are_recognised_by_name(tmp_path, files, expected):
    write_images(tmp_path / "in", *files)
    assert run("import_products", tmp_path / "in").code == 0
    assert products() == expected


@pytest.mark.django_db
def test_folder_above_a_product_folder_is_the_category(tmp_path):
    write_images(tmp_path / "in", "Mugs/A/1.jpg", "Mugs/A/2.jpg", "Toys/B_1.jpg", "Toys/B_2.jpg")
    ran = run("import_products", tmp_path / "in")
    assert set(Product.objects.values_list("sku", "category")) == {("A", "Mugs"), ("B", "Toys")}
    assert "4 files are views of 2 products by their names" in ran.out


@pytest.mark.django_db
def test_views_can_be_switched_off(tmp_path):
    write_images(tmp_path / "in", "T_1.jpg", "T_2.jpg")
    run("import_products", tmp_path / "in", "--no-views")
    assert products() == {"T_1": ["T_1.jpg"], "T_2": ["T_2.jpg"]}


@pytest.mark.django_db
def test_folders_and_files_of_systems_are_passed_over(tmp_path):
    write_images(tmp_path / "in", "Mugs/A.jpg")
    for name in (
        "Mugs/@eaDir/A.jpg/SYNOPHOTO_THUMB_XL.jpg", "Mugs/.@__thumb/A.jpg", "#recycle/old.jpg", "$RECYCLE.BIN/x.jpg",
        "__MACOSX/._A.jpg", "Mugs/._A.jpg", "Mugs/Thumbs.db", "Mugs/.DS_Store", "System Volume Information/x",
    ):  # fmt: skip
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(jpeg(5))
    assert run("import_products", tmp_path / "in").code == 0
    assert products() == {"A": ["A.jpg"]}


@pytest.mark.django_db(transaction=True)
def test_preview_says_which_files_are_views_and_can_be_switched():
    files = {"T_1.jpg": jpeg(1), "T_2.jpg": jpeg(2), "other.jpg": jpeg(3)}
    browser = browser_of("uploader")
    upload = ImportPage(browser, {"in.zip": zipped(files)})
    assert upload.counts() == {"CREATED": 2, "IMAGE_ADDED": 1}
    text = " ".join(browser.get(upload.page).content.decode().split())
    assert "2 files are views of 1 product by their names, such as T_1.jpg, T_2.jpg of T." in text
    upload.group_views(False)
    assert upload.counts() == {"CREATED": 3}
    upload.group_views(True).confirm()
    assert products() == {"T": ["T_1.jpg", "T_2.jpg"], "other": ["other.jpg"]}
