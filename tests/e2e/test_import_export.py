"""Import and export in a real browser: preview, confirm, correct rejected rows, export."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FilePayload, Page, expect

from products.models import Product
from tests.e2e.conftest import SignIn, save_screenshot
from tests.helpers.jobs import wait_for_jobs
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import rows_as_csv
from tests.helpers.web.import_page import zipped

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("catalogue")]

ROWS = [
    {"sku": "OLD-10", "name": "Blue mug, large", "category": "mugs", "image": "", "colour": "navy", "price": "12.50"},
    {"sku": "OLD-20", "name": "product 2", "category": "mugs", "image": "", "colour": "blue", "price": ""},
    {
        "sku": "IN-1",
        "name": "שלום <b>cup</b> 😀",
        "category": "cups",
        "image": "cup.jpg",
        "colour": "red",
        "price": "8",
    },
    {"sku": "IN-2", "name": "Teapot", "category": "pots", "image": "teapott.jpg", "colour": "", "price": "31"},
]
IMAGES = {"cup.jpg": jpeg(11, (320, 320)), "teapot.jpg": jpeg(12, (320, 320))}


def file(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def send(page: Page, *files: FilePayload) -> None:
    page.goto("/admin/products/product/import/")
    page.get_by_label("Table, ZIP with images, or both").set_input_files(list(files))
    page.get_by_role("button", name="Show what would change").click()


def count(page: Page, label: str) -> str:
    results = page.get_by_role("navigation", name="Results")
    return results.get_by_role("link", name=re.compile(rf"\d\s*{label}")).inner_text().split()[0]


def test_table_is_previewed_imported_and_its_rejected_row_corrected(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    page.goto("/admin/")
    page.get_by_role("link", name="Import").click()
    expect(page.get_by_role("heading", name="Import", exact=True)).to_be_visible()
    table, archive = file("list.csv", rows_as_csv(ROWS, ";").encode("utf-16")), file("pictures.zip", zipped(IMAGES))
    page.get_by_label("Table, ZIP with images, or both").set_input_files([table, archive])
    expect(page.get_by_text("pictures.zip")).to_be_visible()
    save_screenshot(page, "import-chosen")
    page.get_by_role("button", name="Show what would change").click()

    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible()
    assert [count(page, kind) for kind in ("new products", "changed products", "unchanged", "refused")] == [
        "1",
        "1",
        "1",
        "1",
    ]
    expect(page.get_by_role("cell", name="teapott.jpg is not in the ZIP.")).to_be_visible()
    page.get_by_role("link", name="changed products", exact=False).first.click()
    expect(page.get_by_role("row", name="OLD-10")).to_contain_text("product 1 → Blue mug, large")
    save_screenshot(page, "import-preview")
    assert Product.objects.get(sku="OLD-10").name == "product 1"

    page.get_by_role("button", name="Import 2 rows").click()
    expect(page.get_by_text("The results of the rows are kept for a day.")).to_be_visible(timeout=15_000)
    save_screenshot(page, "import-done")
    assert Product.objects.get(sku="OLD-10").name == "Blue mug, large"
    assert Product.objects.get(sku="IN-1").name == "שלום <b>cup</b> 😀"

    with page.expect_download() as download:
        page.get_by_role("link", name="Refused rows as CSV").click()
    [rejected] = csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig")))
    corrected = rows_as_csv([rejected | {"image": "teapot.jpg"}]).encode()
    send(page, file("refused.csv", corrected), archive)
    page.get_by_role("button", name="Import 1 row").click()
    expect(page.get_by_text("The results of the rows are kept for a day.")).to_be_visible(timeout=15_000)
    assert Product.objects.get(sku="IN-2").images.count() == 1
    wait_for_jobs()


def test_unusable_file_is_reported_on_the_same_page(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    send(page, file("list.xlsx", b"sku,name\n"))
    expect(page.get_by_role("alert")).to_contain_text("list.xlsx is not a readable XLSX")
    expect(page.get_by_role("link", name="Choose the columns")).to_have_count(0)
    save_screenshot(page, "import-refused")
    # The files are still selected and are replaced by others.
    expect(page.get_by_text("list.xlsx", exact=True)).to_be_visible()
    page.get_by_label("Table, ZIP with images, or both").set_input_files([file("good.csv", b"sku,name\nOLD-10,New\n")])
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("button", name="Import 1 row")).to_be_visible()
    wait_for_jobs()


def test_too_large_files_are_reported_before_they_are_sent(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    methods: list[str] = []
    page.on("request", lambda request: methods.append(request.method))
    page.goto("/admin/products/product/import/")
    page.locator("#import-form").evaluate("form => form.dataset.maxBytes = 10")
    page.get_by_label("Table, ZIP with images, or both").set_input_files([file("list.csv", b"sku,name\nA,B\n")])
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("alert")).to_contain_text("These files are larger than 512")
    assert "POST" not in methods


def test_columns_are_chosen_if_none_tells_the_products_apart(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    send(page, file("list.csv", b"Foo,Bar,Colour\nOLD-10,Renamed,blue\n"))
    expect(page.get_by_role("alert")).to_contain_text("list.csv has no column sku.")
    page.get_by_role("link", name="Choose the columns").click()
    page.get_by_label("Foo").select_option("sku")
    page.get_by_label("Bar").select_option("name")
    save_screenshot(page, "import-columns")
    page.get_by_role("button", name="Check again with these columns").click()
    expect(page.get_by_role("button", name="Import 1 row")).to_be_visible()
    save_screenshot(page, "import-columns-chosen")


def test_import_finishes_although_the_tab_is_closed(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    send(page, file("list.csv", b"sku,name\nOLD-10,Renamed\n"))
    expect(page.get_by_role("button", name="Import 1 row")).to_be_visible()
    page.goto("/admin/products/product/import/")
    page.get_by_role("link", name="list.csv").click()
    page.get_by_role("button", name="Import 1 row").click()
    page.goto("about:blank")
    wait_for_jobs()
    page.goto("/admin/products/product/import/")
    page.get_by_role("link", name="list.csv").click()
    expect(page.get_by_text("The results of the rows are kept for a day.")).to_be_visible()
    assert Product.objects.get(sku="OLD-10").name == "Renamed"


def test_expired_session_leads_to_the_sign_in_and_nothing_is_sent_twice(sign_in: SignIn) -> None:
    page = sign_in("uploader")
    page.goto("/admin/products/product/import/")
    page.get_by_label("Table, ZIP with images, or both").set_input_files([file("a.csv", b"sku,name\nOLD-10,X\n")])
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Show what would change").click()
    page.wait_for_url(re.compile("/login/.*next=.*import"))


def test_filtered_list_is_exported_and_imported_again(sign_in: SignIn) -> None:
    page = sign_in("manager")
    page.goto("/admin/products/product/?q=product")
    with page.expect_download() as download:
        page.get_by_role("link", name="XLSX").click()
    exported = Path(download.value.path()).read_bytes()
    save_screenshot(page, "export")
    send(page, file(download.value.suggested_filename, exported))
    expect(page.get_by_text("There is nothing to import.")).to_be_visible()
    assert count(page, "unchanged") == "4"

    page.goto("/admin/products/product/")
    page.get_by_role("checkbox", name="Select").nth(1).check()
    page.get_by_role("combobox", name="Action").select_option("export_csv")
    with page.expect_download() as chosen:
        page.get_by_role("button", name="Run", exact=False).click()
    assert len(list(csv.DictReader(io.StringIO(Path(chosen.value.path()).read_text("utf-8-sig"))))) == 1

    page.goto("/admin/matching/match/")
    with page.expect_download() as matches:
        page.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(matches.value.path()).read_text("utf-8-sig"))))
    assert {row["product sku"] for row in rows} == {"NEW-1"}
    wait_for_jobs()


@pytest.mark.parametrize("appearance", ["light", "dark", "phone"])
def test_every_state_of_the_import_has_no_axe_violations(sign_in: SignIn, appearance: str) -> None:
    options = {"viewport": {"width": 390, "height": 844}} if appearance == "phone" else {"color_scheme": appearance}
    page = sign_in("uploader", reduced_motion="reduce", **options)

    def check(name: str) -> None:
        page.wait_for_load_state("networkidle")
        save_screenshot(page, f"{name}-{appearance}")
        violations = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == []
        if appearance == "phone":
            assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.goto("/admin/products/product/import/")
    page.get_by_text("What a table looks like").click()
    check("import")
    send(page, file("list.csv", rows_as_csv(ROWS).encode()), file("pictures.zip", zipped(IMAGES)))
    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible()
    for kind in ("REJECTED", "UPDATED", "CREATED"):
        page.goto(f"{page.url.split('?')[0]}?kind={kind}")
        check(f"import-{kind.lower()}")
    send(page, file("list.csv", b"a,b\n"))
    expect(page.get_by_role("alert")).to_be_visible()
    check("import-error")
    page.goto("/admin/products/product/")
    check("export-products")
    page.goto("/admin/matching/match/")
    check("export-matches")
    wait_for_jobs()
