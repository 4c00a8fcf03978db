"""The demo catalogue: varied, small enough to ship, and loaded only once."""

from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from catalogmatch.demo.catalogue import IMAGES, DemoProduct, demo_products, load_demo
from gpu.legacy import extract_legacy
from gpu.search_vectors import search_vector
from products.models import Product, ProductImage
from products.tasks import notifications_suspended

MAX_TOTAL_BYTES = 2_000_000  # every clone downloads them


def historical() -> list[DemoProduct]:
    return [product for product in demo_products() if product.is_historical]


def arrivals() -> list[DemoProduct]:
    return [product for product in demo_products() if not product.is_historical]


def read(name: str) -> Image.Image:
    with Image.open(IMAGES / name) as opened:
        opened.load()
    return opened


def test_demo_catalogue_has_many_categories_and_two_images_of_each_product():
    products_of = Counter(product.category for product in historical())

    assert len(historical()) >= 60
    assert all(len(product.images) == 2 for product in historical())
    assert len(products_of) >= 6
    assert min(products_of.values()) >= 5
    assert all(product.name and product.description and product.attributes for product in demo_products())


def test_fourteen_of_twenty_arrivals_are_in_the_catalogue():
    expected = [arrival.expected_match for arrival in arrivals()]
    duplicates = [sku for sku in expected if sku is not None]

    assert len(expected) == 20
    assert len(duplicates) == len(set(duplicates)) == 14
    assert set(duplicates) <= {product.sku for product in historical()}
    assert all(product.expected_match is None for product in historical())


def test_arrival_does_not_reveal_which_product_it_is():
    for arrival in arrivals():
        text = f"{arrival.name} {arrival.description} {arrival.attributes}"
        assert not any(product.sku in text or product.name in text for product in historical())


def test_every_shipped_file_is_an_image_of_exactly_one_product():
    used = [name for product in demo_products() for name in product.images]

    assert sorted(used) == sorted(path.name for path in IMAGES.iterdir())
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) <= MAX_TOTAL_BYTES


def test_all_images_differ_and_none_is_blank():
    digests = set()
    for path in IMAGES.iterdir():
        image = read(path.name)
        assert (image.format, image.mode) == ("WEBP", "RGB")
        assert min(image.size) >= 512
        assert np.asarray(image).std() > 10
        digests.add(sha256(image.tobytes()).digest())

    assert len(digests) == len(list(IMAGES.iterdir()))


def test_most_arrivals_from_the_catalogue_find_their_product():
    vectors = {path.name: search_vector(extract_legacy(read(path.name))) for path in IMAGES.iterdir()}
    ranks = []
    for arrival in arrivals():
        if arrival.expected_match is None:
            continue
        query = vectors[arrival.images[0]]
        best = {product.sku: max(float(query @ vectors[name]) for name in product.images) for product in historical()}
        ranks.append(sorted(best, key=lambda sku: -best[sku]).index(arrival.expected_match))

    assert sum(rank < 5 for rank in ranks) >= 11
    assert sum(rank == 0 for rank in ranks) >= 7


@pytest.mark.django_db
def test_interrupted_load_is_completed_and_a_complete_one_adds_nothing():
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise StoppedError

    with notifications_suspended():
        with pytest.raises(StoppedError):
            load_demo(stop)
        assert Product.objects.count() == 3

        summary = load_demo()
        again = load_demo()

    assert (summary.historical, summary.arrivals) == (66, 20)
    assert summary.added == 83
    assert again.added == 0
    assert Product.objects.filter(is_historical=True).count() == 66
    assert Product.objects.filter(is_historical=False).count() == 20
    assert ProductImage.objects.count() == 152
