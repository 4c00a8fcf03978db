"""The import page: a preview of all changes, then the import after its user confirms it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from products import tasks
from products.models import Import, Product, ProductImage
from tests.helpers.accounts import user_in
from tests.helpers.files import files_in
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import rows_as_csv
from tests.helpers.web.import_page import IMPORT, Files, ImportPage, zipped

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def browser() -> Client:
    return browser_of("uploader")


def mug() -> Product:
    return make_product(
        sku="MUG", name="Mug", category="mugs", description="blue", attributes={"colour": "blue", "weight": 350}
    )


def test_preview_shows_all_changes_and_makes_none(browser, media):
    mug()
    make_product(sku="CUP", name="Cup")
    existing = Product.objects.values_list("sku", "name", "attributes", "updated_at")
    unchanged = list(existing)
    rows = [
        {"sku": "MUG", "name": "Large mug", "colour": "red", "weight": "350", "image": ""},
        {"sku": "CUP", "name": "Cup", "image": ""},
        {"sku": "NEW", "name": "New", "image": "new.jpg"},
        {"sku": "GONE", "name": "Gone", "image": "gone.jpg"},
    ]
    upload = ImportPage(browser, {"all.zip": zipped({"list.csv": rows_as_csv(rows), "new.jpg": jpeg(1)})})
    assert upload.counts() == {"CREATED": 1, "UPDATED": 1, "SKIPPED": 1, "REJECTED": 1}
    assert upload.context("UPDATED")["rows"] == [
        {
            "row": 2,
            "label": "MUG",
            "changes": [
                {"name": "name", "old": "Mug", "new": "Large mug"},
                {"name": "colour", "old": "blue", "new": "red"},
            ],
        }
    ]
    assert upload.reasons() == {5: "gone.jpg is not in the ZIP."}
    assert list(existing.all()) == unchanged
    assert files_in(media) == []


def test_confirmed_import_makes_the_changes_of_the_preview(browser):
    product = mug()
    rows = [
        {"sku": "MUG", "name": "Large mug", "is_historical": "yes", "image": "side.jpg"},
        {"sku": "NEW", "name": "New", "image": "new.jpg", "material": "clay"},
    ]
    files: Files = {"list.csv": rows_as_csv(rows), "side.jpg": jpeg(1), "new.jpg": jpeg(2)}
    upload = ImportPage(browser, {"all.zip": zipped(files)})
    shown = upload.counts()
    assert upload.confirm().counts() == shown == {"CREATED": 1, "UPDATED": 1}
    product.refresh_from_db()
    assert (product.name, product.is_historical, product.images.count()) == ("Large mug", True, 2)
    assert product.attributes == {"colour": "blue", "weight": 350}
    new = Product.objects.get(sku="NEW")
    assert (new.attributes, new.images.get().state) == ({"material": "clay"}, "ready")


def test_preview_applies_rows_of_one_file_in_order_like_the_import(browser):
    rows = [
        {"sku": "A", "name": "first", "image": "1.jpg"},
        {"sku": "A", "name": "", "image": "2.jpg"},
        {"sku": "A", "name": "second", "image": "1.jpg"},
        {"sku": "A", "name": "second", "image": ""},
        {"sku": "", "name": "without a SKU", "image": "1.jpg"},
    ]
    files: Files = {"list.csv": rows_as_csv(rows), "1.jpg": jpeg(1), "2.jpg": jpeg(2)}
    upload = ImportPage(browser, {"all.zip": zipped(files)})
    expected = {"CREATED": 1, "IMAGE_ADDED": 1, "UPDATED": 1, "SKIPPED": 1, "REJECTED": 1}
    assert upload.counts() == expected
    assert upload.confirm().counts() == expected
    product = Product.objects.get(sku="A")
    assert (product.name, product.images.count()) == ("second", 2)


def test_empty_cell_changes_nothing_and_numbers_stay_numbers(browser):
    product = mug()
    row = {"sku": "MUG", "name": "", "category": "", "colour": "", "weight": "400", "is_historical": ""}
    ImportPage(browser, {"list.csv": rows_as_csv([row])}).confirm()
    product.refresh_from_db()
    assert (product.name, product.category) == ("Mug", "mugs")
    assert product.attributes == {"colour": "blue", "weight": 400}


def test_table_without_images_changes_products_and_rejects_new_ones(browser):
    mug()
    rows = [{"sku": "MUG", "name": "Cup", "image": "mug.jpg"}, {"sku": "NEW", "name": "New", "image": "new.jpg"}]
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows)}).confirm()
    assert upload.counts() == {"UPDATED": 1, "REJECTED": 1}
    assert "the table was sent without a ZIP of images" in upload.reasons()[3]
    assert Product.objects.get().name == "Cup"


def test_row_cannot_read_a_file_of_the_server(browser, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(jpeg(9))
    outside = str(tmp_path / "secret.jpg")
    upload = ImportPage(browser, {"list.csv": rows_as_csv([{"sku": "A", "image": outside}])})
    assert upload.counts() == {"REJECTED": 1}
    rows = [{"sku": "A", "image": outside}, {"sku": "B", "image": "../../secret.jpg"}]
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows), "pictures.zip": zipped({"a.jpg": jpeg(1)})}).confirm()
    assert upload.counts() == {"REJECTED": 2}
    assert not Product.objects.exists()


def test_table_finds_its_images_in_a_zip_with_a_single_folder(browser):
    rows = [{"sku": "A", "image": "a.jpg"}, {"sku": "B", "image": "pictures/b.jpg"}]
    files = {"pictures/a.jpg": jpeg(1), "pictures/b.jpg": jpeg(2)}
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows), "pictures.zip": zipped(files)}).confirm()
    assert upload.counts() == {"CREATED": 2}


def test_zip_of_images_adds_products_and_renames_none(browser):
    make_product(sku="blue", name="The blue one", category="Mugs")
    files = {"Mugs/blue.jpg": jpeg(1), "Mugs/red.jpg": jpeg(2)}
    upload = ImportPage(browser, {"pictures.zip": zipped(files)}, is_historical="on").confirm()
    assert upload.counts() == {"CREATED": 1, "IMAGE_ADDED": 1}
    assert set(Product.objects.values_list("sku", "name", "is_historical")) == {
        ("blue", "The blue one", False),
        ("red", "red", True),
    }


def test_rejected_rows_are_downloaded_corrected_and_imported_alone(browser):
    rows = [
        {"sku": "GOOD", "name": "good", "image": "good.jpg", "colour": "blue"},
        {"sku": "BAD", "name": "bad", "image": "typo.jpg", "colour": "=red"},
    ]
    archive = zipped({"good.jpg": jpeg(1), "bad.jpg": jpeg(2)})
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows), "pictures.zip": archive}).confirm()
    rejected = upload.rejected_rows()
    assert rejected == [
        {
            "(row)": "3", "(reason)": "typo.jpg is not in the ZIP.",
            "sku": "BAD", "name": "bad", "image": "typo.jpg", "colour": "'=red",
        }
    ]  # fmt: skip
    untouched = Product.objects.get(sku="GOOD").updated_at
    corrected = rows_as_csv([rejected[0] | {"image": "bad.jpg"}])
    again = ImportPage(browser, {"refused.csv": corrected, "pictures.zip": archive}).confirm()
    assert again.counts() == {"CREATED": 1}
    assert Product.objects.get(sku="BAD").attributes == {"colour": "=red"}
    assert Product.objects.get(sku="GOOD").updated_at == untouched


def test_rejected_rows_keep_all_their_cells(browser):
    text = 'sku,name,image\nA,one,b.jpg,spare\n"B"x,two,c.jpg\n'
    upload = ImportPage(browser, {"list.csv": text})
    response = browser.get(f"{upload.page}refused.csv").getvalue().decode("utf-8-sig")
    assert response.splitlines()[1].endswith("A,one,b.jpg,spare")
    assert '"""B""x,two,c.jpg"' in response


def test_rows_are_shown_page_by_page(browser):
    rows = [{"sku": f"S{number}", "image": "gone.jpg"} for number in range(120)]
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows)})
    assert upload.context("REJECTED")["page_count"] == 3
    assert [row["row"] for row in upload.context("REJECTED", 3)["rows"]] == list(range(102, 122))
    assert [row["row"] for row in upload.context("REJECTED", 99)["rows"]] == list(range(102, 122))


def test_user_cannot_see_or_confirm_the_import_of_another_user(browser):
    mug()
    upload = ImportPage(browser, {"list.csv": rows_as_csv([{"sku": "MUG", "name": "Cup"}])})
    other = browser_of("manager")
    for method, path in (("get", ""), ("post", "run/"), ("post", "discard/"), ("get", "refused.csv")):
        assert getattr(other, method)(f"{upload.page}{path}").status_code == 404
    assert browser_of("reviewer").get(IMPORT).status_code == 403
    assert Product.objects.get().name == "Mug"


def test_import_is_confirmed_once(browser):
    mug()
    upload = ImportPage(browser, {"list.csv": rows_as_csv([{"sku": "MUG", "name": "Cup"}])}).confirm()
    Product.objects.update(name="Bowl")
    upload.confirm()
    assert Product.objects.get().name == "Bowl"


def test_unconfirmed_import_is_discarded_with_its_files(browser, imports_root):
    upload = ImportPage(browser, {"list.csv": rows_as_csv([{"sku": "A", "image": "a.jpg"}])})
    assert files_in(imports_root)
    browser.post(f"{upload.page}discard/")
    assert files_in(imports_root) == []
    assert browser.get(upload.page).status_code == 404


def test_finished_import_is_removed_after_a_day(browser, imports_root):
    ImportPage(browser, {"list.csv": rows_as_csv([{"sku": "A", "image": "a.jpg"}])})
    (imports_root / "orphan").mkdir()
    yesterday = timezone.now() - timedelta(hours=25)
    Import.objects.update(created_at=yesterday, heartbeat_at=yesterday)
    tasks.sweep()
    assert not Import.objects.exists()
    assert files_in(imports_root) == []
    assert list(imports_root.iterdir()) == []


def test_import_resumes_after_its_process_was_stopped(browser):
    names = [f"{number}.jpg" for number in range(6)]
    rows = [{"sku": f"S{number}", "image": name} for number, name in enumerate(names)]
    files = {name: jpeg(seed) for seed, name in enumerate(names, start=1)}
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows), "p.zip": zipped(files)}).confirm()
    # Imitate a process that was killed while it recorded the fifth row.
    job = Import.objects.get()
    added = job.folder / "results" / "created.jsonl"
    lines = added.read_bytes().splitlines(keepends=True)
    added.write_bytes(b"".join(lines[:4]) + lines[4][:9])
    Product.objects.filter(sku="S5").delete()
    for name, content in (("table.csv", rows_as_csv(rows).encode()), ("pictures.zip", zipped(files))):
        (job.folder / name).write_bytes(content)
    long_ago = timezone.now() - timedelta(minutes=5)
    Import.objects.update(state="running", heartbeat_at=long_ago, counts={"CREATED": 4})
    assert "Continue" in browser.get(upload.page).content.decode()
    upload.confirm()
    assert upload.counts() == {"CREATED": 5, "SKIPPED": 1}
    assert Product.objects.count() == 6
    assert ProductImage.objects.count() == 6


def test_history_names_the_user_and_the_import(browser):
    mug()
    ImportPage(browser, {"list.csv": rows_as_csv([{"sku": "MUG", "name": "Cup"}])}).confirm()
    newest = Product.objects.get().history.first()
    assert newest.history_user.username == "uploader"
    assert newest.history_change_reason.startswith("import ")


def test_second_upload_waits_only_for_a_running_import(browser):
    rows = rows_as_csv([{"sku": "A", "image": "a.jpg"}])
    first = ImportPage(browser, {"list.csv": rows})
    Import.objects.update(state="running", heartbeat_at=timezone.now())
    assert "still running" in ImportPage(browser, {"list.csv": rows}).error
    Import.objects.update(state="checked")
    ImportPage(browser, {"list.csv": rows})
    assert browser.get(first.page).status_code == 404


def test_page_shows_progress_and_reloads_at_the_end(browser):
    upload = ImportPage(browser, {"list.csv": rows_as_csv([{"sku": "A", "image": "a.jpg"}])})
    assert browser.get(upload.page, headers={"HX-Request": "true"}).headers["HX-Refresh"] == "true"
    Import.objects.update(state="checking", total=200, done=40)
    fragment = browser.get(upload.page, headers={"HX-Request": "true"}).content.decode()
    assert "40 of 200 rows" in fragment
    assert "<html" not in fragment


def test_unused_files_are_not_kept(browser, imports_root):
    for files in ({"list.csv": "a,b\n"}, {"notes.pdf": "%PDF"}, {"a.csv": "sku\nA", "b.csv": "sku\nB"}):
        assert ImportPage(browser, files).error
    assert ImportPage(browser, {}).error == "Send one table, one ZIP of images, or one of each."
    assert not Import.objects.exists()
    assert not imports_root.exists() or list(imports_root.iterdir()) == []


def test_file_without_a_csrf_token_is_rejected():
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user_in("uploader"))
    assert ImportPage(browser, {"list.csv": "sku\nA\n"}).response.status_code == 403
    assert not Import.objects.exists()


def test_import_that_ended_early_shows_what_was_done(browser):
    rows = [{"sku": f"S{number}", "image": f"{number}.jpg"} for number in range(3)]
    files = {f"{number}.jpg": jpeg(number + 1) for number in range(3)}
    upload = ImportPage(browser, {"list.csv": rows_as_csv(rows), "pictures.zip": zipped(files)})
    job = Import.objects.get()
    table = (job.folder / "table.csv").read_bytes()
    (job.folder / "table.csv").write_bytes(table + b'"open,')
    page = browser.get(upload.confirm().page).content.decode()
    assert "is not closed properly" in page
    (job.folder / "table.csv").write_bytes(table)
    Import.objects.update(state="checked")
    upload.confirm()
    Import.objects.update(state="failed", error="The disk is full.")
    assert "The disk is full." in browser.get(upload.page).content.decode()
    assert upload.counts() == {"CREATED": 3}
