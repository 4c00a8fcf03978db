"""Headers of shops and tools: what is recognised, grouped, chosen by users and remembered."""

from __future__ import annotations

import pytest

from products.importing.tables.mapping import recognise
from products.models import ColumnChoice, Import, Product
from tests.helpers.commands import run
from tests.helpers.jobs import wait_for_jobs
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images
from tests.helpers.web.import_page import ImportPage, zipped


@pytest.mark.parametrize(
    "header",
    [
        "Item No.,Title,Product type,Photo", "Art.-Nr.,Bezeichnung,Warengruppe,Bild 1",
        "Référence,Désignation,Catégorie,Photo", "Código de producto,Nombre,Categoría,Imagen principal",
        "Codice articolo,Nome,Categoria,Immagine", "Artikelcode,Naam,Productgroep,Afbeelding",
        "Código do produto,Nome do produto,Categoria,Imagem", "item_sku,item_name,item_type,main_image_url",
        "Reference #,Name *,Categories (x,y,z...),Image URLs (x;y;z...)",
        "Product Code/SKU,Product Name,Category,Product Image File - 1",
        "g:id,g:title,g:product_type,g:image_link", "productNumber,productName,productCategory,imageUrl",
    ],
)  # fmt: skip
def test_words_of_shops_are_recognised(header: str) -> None:
    columns = header.replace("(x,y,z...)", "(x y z)").split(",")
    assert recognise(columns).roles == ("sku", "name", "category", "image")


def test_best_of_several_columns_is_the_field_and_the_others_stay_attributes() -> None:
    mapping = recognise(["id", "SKU", "Title", "name", "image1", "image2", "thumbnail", "image alt text"])
    assert mapping.roles == ("attribute", "sku", "attribute", "name", "image", "image", "attribute", "attribute")


def test_export_of_catalogmatch_is_read_as_it_is() -> None:
    mapping = recognise(["sku", "name", "Title", "EAN", "(id)"])
    assert mapping.roles == ("sku", "name", "attribute", "attribute", "nothing")


@pytest.mark.django_db
def test_variants_and_further_images_of_shopify_find_their_products(tmp_path) -> None:
    write_images(tmp_path, "main.jpg", "red.jpg", "blue.jpg", "lamp.jpg")
    header = ["Handle", "Title", "Variant SKU", "Option1 Name", "Option1 Value", "Image Src", "Variant Image"]
    lines = [
        ["mug", "Mug", "M-R", "Colour", "Red", "main.jpg", "red.jpg"],
        ["mug", "", "M-B", "", "Blue", "red.jpg", "blue.jpg"],
        ["mug", "", "", "", "", "blue.jpg", ""],
        ["lamp", "Lamp", "", "Title", "Default Title", "lamp.jpg", ""],
    ]
    table = write_csv(tmp_path / "c.csv", [dict(zip(header, line, strict=True)) for line in lines])
    ran = run("import_products", table)
    assert ran.code == 0
    assert "Recognised Shopify" in ran.out
    found = {p.sku: (p.name, p.attributes, p.images.count()) for p in Product.objects.all()}
    assert found == {
        "M-R": ("Mug", {"Handle": "mug", "Colour": "Red"}, 2),
        "M-B": ("Mug", {"Handle": "mug", "Colour": "Blue"}, 1),
        "lamp": ("Lamp", {"Handle": "lamp"}, 1),
    }


@pytest.mark.django_db
def test_store_views_of_magento_do_not_change_the_product(tmp_path) -> None:
    write_images(tmp_path, "m/b/1.jpg", "m/b/2.jpg")
    rows = [
        {"sku": "A", "store_view_code": "", "categories": "Default Category/Gear,Default Category/Gear/Bags",
         "name": "Bag", "base_image": "/m/b/1.jpg", "additional_images": "/m/b/1.jpg,/m/b/2.jpg"},
        {"sku": "A", "store_view_code": "de", "name": "Tasche"},
    ]  # fmt: skip
    assert run("import_products", write_csv(tmp_path / "c.csv", rows)).code == 0
    product = Product.objects.get()
    assert (product.name, product.category, product.images.count()) == ("Bag", "Gear/Bags", 2)


@pytest.mark.django_db
def test_command_takes_what_columns_are(tmp_path) -> None:
    write_images(tmp_path, "a.jpg")
    table = write_csv(tmp_path / "c.csv", [{"Foo": "A", "Bar": "Mug", "Pic": "a.jpg", "note": "x"}])
    refused = run("import_products", table)
    assert refused.code == 1
    assert "no column sku" in refused.err
    assert "--map" in refused.err
    assert "is not COLUMN=FIELD" in run("import_products", table, "--map", "Foo=key").err
    assert "has no column X" in run("import_products", table, "--map", "X=sku").err
    assert "no preset x" in run("import_products", table, "--preset", "x").err
    ran = run("import_products", table, "--map", "foo=sku", "--map", "Bar=name", "--map", "note=nothing")
    assert ran.code == 0
    product = Product.objects.get()
    assert (product.sku, product.name, product.attributes) == ("A", "Mug", {})


@pytest.mark.django_db(transaction=True)
def test_user_chooses_columns_on_the_page_and_the_next_file_remembers_them() -> None:
    browser = browser_of("uploader")
    make_product(sku="A", name="Mug")
    upload = ImportPage(browser, {"list.csv": "Foo,Bar,colour\nA,Cup,red\n"})
    assert "no column sku" in upload.error
    job = Import.objects.get()
    page = f"/admin/products/product/import/{job.pk}/"
    assert page in upload.response.content.decode()
    assert [column["examples"] for column in browser.get(page).context["columns"]] == [["A"], ["Cup"], ["red"]]
    browser.post(f"{page}columns/", {"role-0": "sku", "role-1": "name", "role-2": "nothing", "preset": "none"})
    wait_for_jobs()
    changes = browser.get(page, {"kind": "UPDATED"}).context["rows"][0]["changes"]
    assert changes == [{"name": "name", "old": "Mug", "new": "Cup"}]
    again = ImportPage(browser, {"next.csv": "Foo,Bar,colour\nA,Bowl,blue\n"}).confirm()
    assert again.counts() == {"UPDATED": 1}
    assert (Product.objects.get().name, Product.objects.get().attributes) == ("Bowl", {})
    assert ColumnChoice.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_long_text_is_left_out_and_the_row_says_so() -> None:
    table = f"sku,name,image,Body\nA,Mug,a.jpg,{'x' * 200_000}\n"
    upload = ImportPage(browser_of("uploader"), {"all.zip": zipped({"list.csv": table, "a.jpg": jpeg(1)})}).confirm()
    assert upload.counts() == {"CREATED": 1}
    [note] = upload.context("CREATED")["rows"][0]["notes"]
    assert "The description was left out: it has 200,000 characters" in note
