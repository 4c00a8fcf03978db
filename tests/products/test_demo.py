"""The demo catalogue: what it must offer to be worth trying, and that it is put in once."""

from collections import Counter

import numpy as np
import pytest

from gpu.legacy import extract_legacy
from matching.similarity import search_vector
from products.demo.catalogue import load_demo
from products.demo.drawing import DemoPicture, draw_catalogue, plan
from products.models import Product, ProductImage
from products.tasks import held_back


def truth() -> dict[str, str | None]:
    """For each new arrival's SKU that of the historical product which it is, or None; the database does not know."""
    return {item.sku: item.shows for item in plan() if not item.is_historical}


@pytest.fixture(scope="module")
def pictures() -> list[DemoPicture]:
    return list(draw_catalogue())


def test_there_is_a_catalogue_of_many_categories_photographed_from_two_sides(pictures):
    sides: dict[str, list[int]] = {}
    for picture in pictures:
        if picture.is_historical:
            sides.setdefault(picture.sku, []).append(picture.side)
    products_of = Counter(picture.category for picture in pictures if picture.is_historical and picture.side == 0)

    assert len(sides) >= 60
    assert all(seen == [0, 1] for seen in sides.values())
    assert len(products_of) >= 6
    assert min(products_of.values()) >= 5
    assert all(picture.name and picture.description and picture.attributes for picture in pictures)


def test_twenty_arrivals_come_of_which_some_are_not_in_the_catalogue(pictures):
    arrivals = [picture for picture in pictures if not picture.is_historical]
    historical = {picture.sku for picture in pictures if picture.is_historical}
    answers = truth()

    assert [picture.sku for picture in arrivals] == list(answers)
    assert len(answers) == 20
    known = [sku for sku in answers.values() if sku is not None]
    assert len(known) == len(set(known)) == 14
    assert set(known) <= historical


def test_an_arrival_does_not_tell_what_it_is(pictures):
    names = {picture.sku: picture.name for picture in pictures if picture.is_historical}
    for picture in pictures:
        if not picture.is_historical:
            told = f"{picture.name} {picture.description} {picture.attributes}"
            assert not any(sku in told or name in told for sku, name in names.items())


def test_the_same_seed_draws_the_same_pictures_and_another_seed_others(pictures):
    again = next(draw_catalogue())
    last = list(draw_catalogue(skip={item.sku for item in plan()[:-1]}))

    assert again.image.tobytes() == pictures[0].image.tobytes()
    assert [picture.image.tobytes() for picture in last] == [pictures[-1].image.tobytes()]
    assert next(draw_catalogue(seed=8)).image.tobytes() != pictures[0].image.tobytes()


def test_no_two_pictures_are_the_same_and_each_is_a_real_picture(pictures):
    assert len({picture.image.tobytes() for picture in pictures}) == len(pictures)
    for picture in pictures:
        assert (picture.image.mode, min(picture.image.size) >= 600) == ("RGB", True)
        assert np.asarray(picture.image).std() > 10


def test_most_arrivals_find_their_product_and_it_is_a_real_question(pictures):
    vectors = np.stack([search_vector(extract_legacy(picture.image)) for picture in pictures])
    catalogue = [index for index, picture in enumerate(pictures) if picture.is_historical]
    answers = truth()
    found_at = []
    for index, picture in enumerate(pictures):
        right = answers.get(picture.sku)
        if right is None:
            continue
        best: dict[str, float] = {}
        for other in catalogue:
            score = float(vectors[index] @ vectors[other])
            best[pictures[other].sku] = max(score, best.get(pictures[other].sku, -1.0))
        found_at.append(sorted(best, key=lambda sku: -best[sku]).index(right))

    assert sum(place < 5 for place in found_at) >= 11
    assert sum(place == 0 for place in found_at) >= 7


@pytest.mark.django_db
def test_the_demo_is_put_into_the_database_once_and_a_stopped_one_is_completed():
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise StoppedError

    with held_back():
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
