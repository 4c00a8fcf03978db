"""Barcodes in images: read at intake, shown, searched by, filled in later and taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from gpu.imaging.barcodes import Barcode as Code
from gpu.imaging.barcodes import gtins
from matching.answers.identified import find_identified
from matching.answers.records import record_of
from matching.service import find_and_save_matches
from products import tasks
from products.exporting import products_table
from products.images import barcodes
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Barcode, Product, ProductImage
from products.queue.embed import embed_pending
from tests.helpers import sample_images
from tests.helpers.accounts import user_in
from tests.helpers.commands import run
from tests.helpers.rows import browser_of

pytestmark = pytest.mark.django_db

SOAP, JAM = "4006381333931", "9506000134352"


def add(*numbers: str, seed: int = 0, **fields: Any) -> Product:
    """Add a product with an image of each number, or with one that has no code."""
    images = [sample_images.pack(number, seed + place) for place, number in enumerate(numbers)]
    product = add_product([Upload(image) for image in images or [sample_images.jpeg(seed)]], **fields).product
    embed_pending(send_signal=False)
    return product


def api_of(role: str) -> APIClient:
    client = APIClient()
    client.force_authenticate(user_in(role))
    return client


def shown(product: Product) -> list[list[str]]:
    response = api_of("viewer").get(f"/api/products/{product.pk}")
    return [image["barcodes"] for image in response.json()["images"]]


def test_upload_reads_the_barcode_of_each_image() -> None:
    image = SimpleUploadedFile("soap.jpg", sample_images.pack(SOAP), "image/jpeg")
    response = api_of("uploader").post("/api/products/upload", {"image": image}, format="multipart")
    product = Product.objects.get(pk=response.json()["product_id"])
    assert shown(product) == [[SOAP]]
    assert Barcode.objects.get().number == "0" + SOAP
    assert not barcodes.unread_images().exists()


def test_turned_pack_and_digital_link_are_read() -> None:
    add_product(
        [Upload(sample_images.pack(JAM, angle=90)), Upload(sample_images.pack(f"https://id.gs1.org/01/0{JAM}"))]
    )
    assert list(Barcode.objects.values_list("number", flat=True)) == ["0" + JAM] * 2


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code("gtin", "96385074"), ["00000096385074"]),
        (Code("gtin", "4006381333932"), []),  # a wrong check digit
        (Code("gtin", "0000000000000"), []),
        (Code("qr", "https://example.com/p/4006381333931"), []),  # any number of a shop
        (Code("qr", "https://example.com/01/04006381333931/10/A1"), ["04006381333931"]),
        (Code("qr", "(01)04006381333931(17)261231"), ["04006381333931"]),
        (Code("qr", "/01/" + "٤" * 14), []),
        (Code("qr", "/01/04006381333931" * 50), ["04006381333931"]),
    ],
)
def test_only_valid_gtins_are_kept(code: Code, expected: list[str]) -> None:
    assert gtins([code]) == expected


def test_image_without_code_has_no_barcodes() -> None:
    product = add()
    assert shown(product) == [[]]
    assert not barcodes.unread_images().exists()


@pytest.mark.parametrize("in_field", [True, False])
def test_equal_barcode_makes_a_candidate_whatever_the_image_looks_like(in_field: bool) -> None:
    for seed in range(10, 32):
        add(seed=seed, is_historical=True)
    known = add(gtin=SOAP, seed=5, is_historical=True) if in_field else add(SOAP, seed=5, is_historical=True)
    arrival = add(SOAP, seed=90)
    assert find_identified(arrival, record_of(arrival)) == [known.pk]
    result = find_and_save_matches(arrival.pk, threshold=99.99, limit=10)
    assert known.pk in [candidate.product.pk for candidate in result.candidates]


def test_barcode_in_the_image_of_a_search_finds_its_product() -> None:
    for seed in range(10, 32):
        add(seed=seed, is_historical=True)
    known = add(gtin=SOAP, seed=5, is_historical=True)
    image = SimpleUploadedFile("soap.jpg", sample_images.pack(SOAP, seed=90), "image/jpeg")
    response = api_of("viewer").post("/api/match", {"image": image, "threshold": 99.99}, format="multipart")
    assert known.pk in [match["product_id"] for match in response.json()["matches"]]


def test_arrival_of_before_is_searched_again_when_its_barcode_comes_into_the_catalogue() -> None:
    from matching import newcomers

    arrival = add(SOAP, seed=90)
    Product.objects.update(unmatched_since=None)
    add(SOAP, seed=5, is_historical=True)
    marked = [pk for block in newcomers.follow() for pk in block.marked]
    assert arrival.pk in marked


class TestReadingLater:
    def forget(self) -> None:
        Barcode.objects.all().delete()
        ProductImage.objects.update(barcode_reader=0)
        Product.objects.update(unmatched_since=None)

    def test_reindex_reads_the_barcodes_of_earlier_images(self) -> None:
        with_code, without = add(SOAP, is_historical=True), add(seed=7, is_historical=True)
        self.forget()
        ran = run("reindex")
        assert "Read the barcodes of 2 images. Found 1." in ran.out
        assert (shown(with_code), shown(without)) == ([[SOAP]], [[]])
        assert "barcodes" not in run("reindex").out

    def test_worker_reads_them_and_matches_the_products_again(self) -> None:
        with_code, without = add(SOAP), add(seed=7)
        self.forget()
        tasks.read_barcodes()
        assert shown(with_code) == [[SOAP]]
        assert list(Product.objects.filter(unmatched_since__isnull=False)) == [with_code]
        assert not barcodes.unread_images().exists()
        assert shown(without) == [[]]

    def test_stopping_loses_nothing_and_the_next_call_continues(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(barcodes, "_BATCH", 1)
        for seed in range(3):
            add(SOAP, seed=seed)
        self.forget()

        def stop(_count: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            barcodes.read_unread(stop)
        assert Barcode.objects.count() == 1
        assert barcodes.read_unread().images == 2
        assert Barcode.objects.count() == 3

    def test_image_whose_file_is_lost_is_named_and_does_not_stop_others(self) -> None:
        lost, kept = add(SOAP), add(JAM, seed=3)
        self.forget()
        image = lost.images.get()
        Path(image.file.path).unlink()
        read = barcodes.read_unread()
        assert list(read.failed) == [image.pk]
        assert shown(kept) == [[JAM]]
        assert not barcodes.unread_images().exists()

    def test_removed_barcode_stays_removed(self) -> None:
        product = add(SOAP)
        barcodes.mark(product, "0" + SOAP, is_wrong=True, user=user_in("uploader"))
        ProductImage.objects.update(barcode_reader=0)
        barcodes.read_unread()
        assert shown(product) == [[]]


class TestCorrection:
    def post(self, product: Product, role: str = "uploader", **data: str) -> Any:
        return browser_of(role).post(f"/admin/products/product/{product.pk}/barcodes/", data, follow=True)

    def test_wrong_barcode_is_taken_back_on_the_product_page_and_put_back(self) -> None:
        product = add(SOAP, JAM)
        Product.objects.update(unmatched_since=None)
        page = self.post(product, number="0" + SOAP).content.decode()
        assert "The barcode no longer counts." in page
        assert "taken back by" in page
        assert shown(product) == [[], [JAM]]
        assert [one.number for one in record_of(product).identifiers] == ["0" + JAM]
        product.refresh_from_db()
        assert product.unmatched_since is not None
        self.post(product, number="0" + SOAP, put_back="1")
        assert shown(product) == [[SOAP], [JAM]]

    def test_barcode_that_is_gone_is_said(self) -> None:
        assert "has no such barcode any more" in self.post(add(SOAP), number="1").content.decode()

    def test_viewer_may_not_change_barcodes(self) -> None:
        product = add(SOAP)
        assert self.post(product, role="viewer", number="0" + SOAP).status_code == 403
        assert shown(product) == [[SOAP]]
        assert (
            "is not this product"
            not in browser_of("viewer").get(f"/admin/products/product/{product.pk}/change/").content.decode()
        )


def test_export_lists_barcodes() -> None:
    product = add(SOAP, JAM)
    header, row = products_table([product.pk])
    assert row[header.index("(barcodes)")] == f"{SOAP} {JAM}"


def test_deleting_an_image_deletes_its_barcodes() -> None:
    product = add(SOAP)
    product.images.get().delete()
    assert not Barcode.objects.exists()
