"""Finding, saving and judging matches: candidates, scores, and verdicts that survive reruns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from gpu.encoders.weights import model_id
from gpu.vectors import LEGACY_MODEL, Features
from matching import index, service
from matching.index import Hit
from matching.models import Match
from matching.review import verdicts
from matching.tasks import match_unmatched
from products.images import intake
from products.images.cleaning import Upload
from products.models import Feature, Product, ProductImage
from products.queue import embed
from products.queue.query_features import FeaturesPendingError
from tests.helpers.accounts import user_in
from tests.helpers.sample_images import jpeg
from tests.helpers.vectors import add_feature, add_image, add_product, legacy_features

pytestmark = pytest.mark.django_db


def clip(*degrees: float) -> list[Features]:
    """Return embeddings in a plane. The score of two is 100 times the cosine of their angle."""
    radians = np.radians(degrees)
    return [Features.from_embedding(np.array([np.cos(a), np.sin(a)]), model_id()) for a in radians]


def ids(result: service.SearchResult) -> list[int]:
    return [found.product.pk for found in result.candidates]


def scores(result: service.SearchResult) -> list[float]:
    return [round(found.score, 2) for found in result.candidates]


@pytest.fixture
def new() -> Product:
    """Return a new product at 0 degrees."""
    return add_product(*clip(0), historical=False)


def test_candidates_are_sorted_by_score(new: Product) -> None:
    far, near, middle = (add_product(*clip(angle)) for angle in (50, 10, 30))
    result = service.find_matches(new.pk)
    assert ids(result) == [near.pk, middle.pk, far.pk]
    assert scores(result) == pytest.approx([98.48, 86.60, 64.28])
    assert [found.rank for found in result.candidates] == [1, 2, 3]
    assert (result.feature_type, result.model_name) == ("clip", model_id())
    assert Match.objects.count() == 0


def test_best_pair_of_images_decides_the_score() -> None:
    query = add_product(*clip(0, 90), historical=False)
    historical = add_product(*clip(40, 95))
    result = service.find_matches(query.pk)
    assert (ids(result), scores(result)) == ([historical.pk], [99.62])
    assert result.candidates[0].image == historical.images.get(features__color_features=clip(95)[0].to_blobs()[0])


def test_candidates_below_the_threshold_are_left_out(new: Product) -> None:
    at, _below = add_product(*clip(60)), add_product(*clip(61))
    assert ids(service.find_matches(new.pk, threshold=49.9999)) == [at.pk]
    assert ids(service.find_matches(new.pk, threshold=50.1)) == []


def test_limit_bounds_the_number_of_candidates(new: Product) -> None:
    found = [add_product(*clip(angle)).pk for angle in range(5)]
    assert ids(service.find_matches(new.pk, limit=2)) == found[:2]


def test_equal_scores_are_always_ranked_in_the_same_order(new: Product) -> None:
    twins = [add_product(*clip(20)).pk for _ in range(5)]
    assert [ids(service.find_matches(new.pk, limit=3)) for _ in range(3)] == [twins[:3]] * 3


def test_candidates_are_other_historical_products(new: Product) -> None:
    add_product(*clip(0), historical=False)
    historical = add_product(*clip(5))
    assert ids(service.find_matches(new.pk)) == [historical.pk]
    assert ids(service.find_matches(historical.pk)) == []


def test_category_narrows_the_search(new: Product) -> None:
    add_product(*clip(1), category="lamps")
    mug = add_product(*clip(30), category="mugs")
    assert ids(service.find_matches(new.pk, category="mugs", limit=1)) == [mug.pk]
    assert ids(service.find_matches(new.pk, category="chairs")) == []


def test_candidates_deleted_since_the_index_search_are_replaced(new: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    historical = [add_product(*clip(angle)) for angle in range(1, 6)]
    search = index.search

    def late(*args: Any, **options: Any) -> list[Hit]:
        hits = search(*args, **options)
        Product.objects.filter(pk__in=[historical[0].pk, historical[2].pk]).delete()
        Product.objects.filter(pk=historical[1].pk).update(is_historical=False)
        return hits

    monkeypatch.setattr(index, "search", late)
    result = service.find_matches(new.pk, limit=2)
    assert ids(result) == [historical[3].pk, historical[4].pk]
    assert [found.rank for found in result.candidates] == [1, 2]


def test_clip_is_used_only_once_it_covers_the_catalogue() -> None:
    legacy = legacy_features(3)
    query = add_product(*clip(0), historical=False)
    add_feature(query.images.get(), legacy[0])
    covered, lagging = add_product(*clip(10)), add_product()
    add_feature(covered.images.get(), legacy[1])
    image = add_image(lagging)
    add_feature(image, legacy[2])
    ProductImage.objects.filter(product=covered).update(embedded_with=model_id())
    ProductImage.objects.filter(product=lagging).update(embedded_with=LEGACY_MODEL)

    result = service.find_matches(query.pk, threshold=0)
    assert (result.feature_type, set(ids(result))) == ("legacy", {covered.pk, lagging.pk})
    add_feature(image, clip(20)[0])
    ProductImage.objects.filter(product=lagging).update(embedded_with=model_id())
    result = service.find_matches(query.pk, threshold=0)
    assert (result.feature_type, ids(result)) == ("clip", [covered.pk, lagging.pk])


def test_failed_image_does_not_prevent_the_use_of_clip(new: Product) -> None:
    historical = add_product(*clip(10))
    given_up = add_image(add_product())
    ProductImage.objects.filter(pk=given_up.pk).update(state="failed", embedded_with=LEGACY_MODEL)
    assert ids(service.find_matches(new.pk)) == [historical.pk]


def test_product_without_features_raises_an_error_with_the_reason() -> None:
    without = Product.objects.create()
    with pytest.raises(FeaturesPendingError, match="no image"):
        service.find_matches(without.pk)
    image = add_image(without)
    ProductImage.objects.update(state="pending")
    with pytest.raises(FeaturesPendingError, match="waiting to be embedded"):
        service.find_matches(without.pk)
    ProductImage.objects.update(state="failed")
    with pytest.raises(FeaturesPendingError, match="could be embedded"):
        service.find_matches(without.pk)
    add_feature(image, clip(0)[0])
    add_feature(add_image(add_product()), legacy_features(1)[0])
    ProductImage.objects.exclude(pk=image.pk).update(embedded_with=LEGACY_MODEL)
    with pytest.raises(FeaturesPendingError, match="Legacy features are missing"):
        service.find_matches(without.pk)
    with pytest.raises(Product.DoesNotExist):
        service.find_matches(without.pk + 999)


def test_saving_twice_updates_scores_and_ranks_without_duplicates(new: Product) -> None:
    first, second = add_product(*clip(10)), add_product(*clip(20))
    service.match_product(new.pk)
    match_ids = dict(Match.objects.values_list("candidate", "pk"))
    Feature.objects.filter(product=second).update(**Feature.columns(clip(1)[0]))
    found = service.match_product(new.pk)
    assert [(row["product_id"], row["rank"], row["match_id"]) for row in found] == [
        (second.pk, 1, match_ids[second.pk]),
        (first.pk, 2, match_ids[first.pk]),
    ]
    assert Match.objects.get(candidate=second).similarity_score == pytest.approx(99.98, abs=0.01)
    assert Match.objects.count() == 2


def test_verdict_and_note_survive_every_rerun(new: Product) -> None:
    confirmed, rejected, noted = (add_product(*clip(angle)) for angle in (10, 20, 30))
    reviewer = user_in("reviewer")
    by_candidate = {row["product_id"]: row["match_id"] for row in service.match_product(new.pk)}
    verdicts.set_verdict(by_candidate[confirmed.pk], "confirmed", reviewer, "the same mug")
    verdicts.set_verdict(by_candidate[rejected.pk], "rejected", reviewer)
    verdicts.set_verdict(by_candidate[noted.pk], None, reviewer, "ask the supplier")

    for threshold in (50, 100, 50):  # at 100 none of them is a candidate
        service.match_product(new.pk, threshold=threshold)
        assert {
            match.candidate_id: (match.review_status, match.note, match.reviewer) for match in Match.objects.all()
        } == {
            confirmed.pk: ("confirmed", "the same mug", reviewer),
            rejected.pk: ("rejected", "", reviewer),
            noted.pk: ("rejected", "ask the supplier", reviewer),  # settled with the confirmed one
        }
    assert {row["product_id"]: row["review_status"] for row in service.match_product(new.pk)} == {
        confirmed.pk: "confirmed",
        rejected.pk: "rejected",
        noted.pk: "rejected",
    }


def test_pending_match_is_deleted_when_it_falls_below_the_threshold(new: Product) -> None:
    add_product(*clip(10))
    service.match_product(new.pk)
    Product.objects.filter(is_historical=True).update(is_historical=False)
    assert service.match_product(new.pk) == []
    assert Match.objects.count() == 0


def test_candidate_deleted_before_saving_is_left_out(new: Product) -> None:
    gone, survivor = add_product(*clip(10)), add_product(*clip(20))
    result = service.find_matches(new.pk)
    gone.delete()
    saved = service.save_matches(result)
    assert ids(saved) == [survivor.pk]
    new.delete()
    with pytest.raises(Product.DoesNotExist):
        service.save_matches(result)
    assert Match.objects.count() == 0


def test_verdict_records_user_and_time_and_can_be_undone(new: Product) -> None:
    add_product(*clip(10))
    [row] = service.match_product(new.pk)
    reviewer = user_in("reviewer")
    match = verdicts.set_verdict(row["match_id"], "rejected", reviewer)
    assert (match.review_status, match.reviewer) == ("rejected", reviewer)
    assert match.reviewed_at is not None
    again = verdicts.set_verdict(row["match_id"], "rejected", user_in("manager"))
    assert (again.reviewer, again.reviewed_at) == (reviewer, match.reviewed_at)
    back = verdicts.set_verdict(row["match_id"], "pending", reviewer)
    assert (back.review_status, back.reviewer, back.reviewed_at) == ("pending", None, None)
    with pytest.raises(ValueError, match="verdict"):
        verdicts.set_verdict(row["match_id"], "maybe", reviewer)
    with pytest.raises(Match.DoesNotExist):
        verdicts.set_verdict(row["match_id"] + 1, "rejected", reviewer)


def test_sweep_matches_new_products_although_one_of_them_fails(new: Product) -> None:
    historical = add_product(*clip(10))
    odd = add_product(Features.from_embedding(np.ones(7), model_id()), historical=False)
    bare = Product.objects.create()
    Product.objects.filter(is_historical=False).update(unmatched_since=timezone.now())
    match_unmatched()
    assert list(Match.objects.values_list("product", "candidate")) == [(new.pk, historical.pk)]
    assert set(service.unmatched()) == {odd, bare}
    match_unmatched([new.pk])
    assert Match.objects.count() == 1


def test_product_is_matched_again_if_its_features_change_during_the_search(new: Product) -> None:
    Product.objects.filter(pk=new.pk).update(unmatched_since=timezone.now())
    result = service.find_matches(new.pk)
    Product.objects.filter(pk=new.pk).update(unmatched_since=timezone.now())
    service.save_matches(result)
    assert list(service.unmatched()) == [new]


@pytest.mark.django_db(transaction=True)
def test_new_product_is_matched_as_soon_as_it_has_features() -> None:
    mug = intake.add_product([Upload(jpeg(1))], is_historical=True).product
    intake.add_product([Upload(jpeg(2))], is_historical=True)
    arrived = intake.add_product([Upload(jpeg(1, angle=3, light=0.95))]).product
    assert arrived.matches.get(rank=1).candidate == mug
    arrived.refresh_from_db()
    assert arrived.unmatched_since is None
    assert not Match.objects.filter(product=mug).exists()


def test_query_image_is_matched_and_not_stored() -> None:
    historical = intake.add_product([Upload(jpeg(1))], is_historical=True).product
    embed.embed_pending()
    result = service.match_image(Upload(jpeg(1)))
    assert (ids(result), result.product, scores(result)) == ([historical.pk], None, [100.0])
    assert (Product.objects.count(), Match.objects.count()) == (1, 0)
    with pytest.raises(ValueError, match="cannot be saved"):
        service.save_matches(result)
