"""Merges with real images, with workers, and at the same moment as other changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from matching import service
from matching.duplicates import merging, unmerging
from matching.models import Match
from matching.review import decisions
from matching.review.decisions import Choice
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Feature, Product, ProductImage, ProductMerge
from products.queue import claims, embed
from tests.helpers.accounts import user_in
from tests.helpers.rows import make_match, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.threads import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True)


def try_merge(kept: Product, other: Product, user: User) -> bool:
    try:
        merging.merge(kept.pk, other.pk, user)
    except (Product.DoesNotExist, ValidationError):
        return False
    return True


def files(product: Product) -> list[bytes]:
    return [Path(image.file.path).read_bytes() for image in product.images.all()]


def found(image: int) -> list[int]:
    """Return the catalogue products that a search with this image finds, best first."""
    result = service.match_image(Upload(jpeg(image)), threshold=0)
    return [candidate.product.pk for candidate in result.candidates]


def test_identical_images_are_kept_once_and_come_back() -> None:
    kept = add_product([Upload(jpeg(1)), Upload(jpeg(2))], is_historical=True, sku="K").product
    other = add_product([Upload(jpeg(2)), Upload(jpeg(3))], is_historical=True, sku="O").product
    before = files(other)
    features = Feature.objects.filter(product=other).count()
    assert features
    old_file = Path(other.images.all()[0].file.path)
    user = user_in("uploader")

    merging.merge(kept.pk, other.pk, user)
    assert len(files(kept)) == 3
    assert not old_file.exists()
    assert set(Feature.objects.values_list("product", flat=True)) == {kept.pk}
    assert found(3) == [kept.pk]

    assert unmerging.undo(other.pk, user) == []
    other = Product.objects.get(pk=other.pk)
    assert files(other) == before
    assert len(files(kept)) == 2
    thumbnail = other.images.all()[0]
    assert Path(thumbnail.file.storage.path(thumbnail.thumbnail_name)).exists()
    assert Feature.objects.filter(product=other).count() == features
    assert found(3)[0] == other.pk


def test_image_that_a_worker_embeds_during_the_merge_gets_its_features(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = add_product([Upload(jpeg(1))], is_historical=True).product
    other = add_product([Upload(jpeg(2))], is_historical=True).product
    image = other.images.get()
    claims.requeue("all", [other.pk])
    extract = embed._extract

    def merge_meanwhile(*arguments: object, **options: object) -> object:
        extracted = extract(*arguments, **options)  # type: ignore[arg-type]
        merging.merge(kept.pk, other.pk, user_in("uploader"))
        return extracted

    monkeypatch.setattr(embed, "_extract", merge_meanwhile)
    embed.embed_pending([image.pk])
    image.refresh_from_db()
    assert (image.state, image.product_id) == ("ready", kept.pk)
    assert set(Feature.objects.filter(image=image).values_list("product", flat=True)) == {kept.pk}


def test_of_two_opposite_merges_at_the_same_moment_one_is_done() -> None:
    users = [user_in("uploader"), user_in("manager")]
    for _number in range(5):
        a, b = make_product(is_historical=True, name="a"), make_product(is_historical=True, name="b")
        done = run_concurrently(partial(try_merge, a, b, users[0]), partial(try_merge, b, a, users[1]))
        assert sorted(done) == [False, True]
        assert Product.objects.filter(pk__in=[a.pk, b.pk]).count() == 1
        assert ProductImage.objects.filter(product__in=[a.pk, b.pk]).count() == 2


def test_decision_at_the_same_moment_as_a_merge_names_the_kept_product() -> None:
    reviewer, uploader = user_in("reviewer"), user_in("uploader")

    def decide(product: Product, candidate: Product) -> bool:
        try:
            decisions.decide(product.pk, Choice("same", [candidate.pk]), reviewer)
        except ValidationError:  # the candidate is gone
            return False
        return True

    for _number in range(5):
        kept, other = make_product(is_historical=True, name="kept"), make_product(is_historical=True, name="other")
        arrival = make_product(name="arrival")
        make_match(arrival, other, 90)
        decided, merged = run_concurrently(partial(decide, arrival, other), partial(try_merge, kept, other, uploader))
        assert merged
        match = Match.objects.get(product=arrival)
        assert match.candidate_id == kept.pk
        assert match.review_status == ("confirmed" if decided else "pending")
        if decided:
            arrival.refresh_from_db()
            assert arrival.decision.candidates == [kept.pk]
            assert [link.other_id for link in arrival.same_as_links.all()] == [kept.pk]


def test_of_two_undos_at_the_same_moment_one_is_done() -> None:
    user = user_in("uploader")
    kept, other = make_product(is_historical=True, name="kept"), make_product(is_historical=True, name="other")
    merging.merge(kept.pk, other.pk, user)

    def undo() -> bool:
        try:
            unmerging.undo(other.pk, user)
        except ProductMerge.DoesNotExist:
            return False
        return True

    assert sorted(run_concurrently(undo, undo)) == [False, True]
    assert Product.objects.filter(pk=other.pk).count() == 1
