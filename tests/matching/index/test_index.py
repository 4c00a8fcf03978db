"""The behaviour of every search engine: correct order, k products, filters, and no stale results."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection

from gpu.search_vectors import search_vector
from gpu.vectors import CLIP, LEGACY, LEGACY_MODEL, Features
from matching import index
from matching.index import Filters, Hit, SearchVectorError
from products.models import Feature, Product
from tests.helpers.vectors import (
    DIM,
    MODEL,
    add_feature,
    add_image,
    add_product,
    add_products,
    embeddings,
    exact_scores,
    legacy_features,
    random_vectors,
)

pytestmark = pytest.mark.django_db


def search(query: np.ndarray, k: int = 5, **filters) -> list[Hit]:
    return index.search(np.atleast_2d(query), k, kind=CLIP, model=MODEL, filters=Filters(**filters))


def found(query: np.ndarray, k: int = 5, **filters) -> list[int]:
    return [hit.product_id for hit in search(query, k, **filters)]


def test_the_best_products_come_first_with_the_scores_of_the_stored_vectors():
    vectors = random_vectors(300)
    products = add_products(embeddings(vectors))
    query = random_vectors(1, seed=9)[0]
    scores = exact_scores(query, vectors)
    order = np.argsort(-scores)[:10]

    hits = search(query, 10)

    assert [hit.product_id for hit in hits] == [products[i].pk for i in order]
    assert [hit.score for hit in hits] == pytest.approx(scores[order], abs=1e-4)


def test_product_is_found_once_by_its_best_pair_of_images():
    front, back, other = random_vectors(3)
    product = add_product(*embeddings([front, back]))
    add_product(*embeddings([other]))

    hits = index.search(np.stack([other, back]), 5, kind=CLIP, model=MODEL)

    assert [hit.score for hit in hits] == pytest.approx([100, 100], abs=1e-4)
    assert {hit.product_id: hit.image_id for hit in hits}[product.pk] == product.images.latest("id").pk


def test_k_products_are_found_although_the_best_have_many_images():
    near, far = random_vectors(2)
    rng = np.random.default_rng(1)
    near_vectors = [near + rng.normal(scale=0.01, size=DIM) for _ in range(120)]
    crowded = add_product(*embeddings(near_vectors))
    others = add_products(embeddings([far] * 3))

    assert found(near, 4) == [crowded.pk, *(product.pk for product in others)]


def test_equal_scores_are_sorted_by_image_id():
    vector = random_vectors(1)[0]
    products = add_products(embeddings([vector] * 100))

    assert found(vector, 7) == [product.pk for product in products[:7]]


def test_filtered_search_still_returns_k_products():
    query = random_vectors(1)[0]
    add_products(embeddings([query] * 50), historical=False)
    mugs = add_products(embeddings(random_vectors(6, seed=2)), category="mugs")
    lamps = add_products(embeddings(random_vectors(6, seed=3)), category="lamps")
    ids = frozenset(product.pk for product in lamps[:3])

    assert set(found(query, 12, historical=True)) == {product.pk for product in mugs + lamps}
    assert set(found(query, 6, historical=True, category="mugs")) == {product.pk for product in mugs}
    assert set(found(query, 6, product_ids=ids)) == ids
    assert found(query, 6, category="mugs", product_ids=ids) == []
    assert found(query, 6, category="no such category") == []
    assert len(found(query, 6, historical=False)) == 6


def test_excluded_product_is_replaced_by_the_next_best():
    query = random_vectors(1)[0]
    asking = add_product(*embeddings([query]))
    others = add_products(embeddings(random_vectors(5, seed=4)))

    assert set(found(query, 5, exclude_product=asking.pk)) == {product.pk for product in others}


def test_empty_catalogue_returns_no_results():
    assert found(random_vectors(1)[0]) == []


def test_vectors_of_another_model_are_never_found():
    query = random_vectors(1)[0]
    add_product(*embeddings([query], model="another-model"))
    assert found(query) == []

    product = add_product(*embeddings([-query]))
    assert found(query) == [product.pk]
    product.features.update(model_name="another-model")
    assert found(query) == []


def test_legacy_features_use_the_same_search():
    features = legacy_features(40)
    products = add_products(features)

    hits = index.search(search_vector(features[7])[None], 3, kind=LEGACY, model=LEGACY_MODEL)

    assert hits[0].product_id == products[7].pk
    assert hits[0].score == pytest.approx(100, abs=1e-3)


def test_a_change_is_found_by_the_next_search():
    vectors = random_vectors(4)
    first, second = add_products(embeddings(vectors[:2]))
    assert found(vectors[0], 1) == [first.pk]

    third = add_product(*embeddings([vectors[2]]))
    assert found(vectors[2], 1) == [third.pk]
    add_feature(add_image(second, 1), Features.from_embedding(vectors[3], MODEL))
    assert found(vectors[3], 1) == [second.pk]
    first.features.update(**Feature.columns(Features.from_embedding(-vectors[0], MODEL)))
    assert found(-vectors[0], 1) == [first.pk]


def test_deleted_product_is_replaced_by_the_next_best_at_once():
    query = random_vectors(1)[0]
    best, second = add_products(embeddings([query, random_vectors(1, seed=5)[0]]))
    assert found(query, 1) == [best.pk]

    best.delete()

    assert found(query, 1) == [second.pk]


def test_bulk_updates_of_filtered_columns_reach_the_index():
    query = random_vectors(1)[0]
    product = add_product(*embeddings([query]), historical=False)
    assert found(query, historical=True) == []

    Product.objects.filter(pk=product.pk).update(is_historical=True, category="mugs")

    assert found(query, historical=True, category="mugs") == [product.pk]


def test_changes_by_plain_sql_reach_the_index():
    query = random_vectors(1)[0]
    product = add_product(*embeddings([query]))
    assert found(query) == [product.pk]

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM features WHERE product_id = %s", [product.pk])

    assert found(query) == []


@pytest.mark.parametrize(
    "bad",
    [np.zeros((1, DIM)), np.full((1, DIM), np.nan), np.ones((1, DIM)), np.empty((0, DIM)), np.ones(DIM)],
    ids=["zero", "NaN", "not a unit vector", "no rows", "not rows"],
)
def test_query_that_is_not_a_unit_vector_is_rejected(bad):
    with pytest.raises(SearchVectorError) as error:
        index.search(bad, 5, kind=CLIP, model=MODEL)
    assert error.value.code == "search_vector_invalid"


def test_query_of_another_length_than_the_stored_vectors_is_rejected():
    add_products(embeddings(random_vectors(2)))
    with pytest.raises(SearchVectorError, match="dimensions"):
        search(random_vectors(1, dim=DIM + 1)[0])


@pytest.mark.usefixtures("unconstrained_vectors")
def test_stored_invalid_vectors_are_never_found():
    query = random_vectors(1)[0]
    valid, zero, nan, short = add_products(embeddings(random_vectors(4, seed=6)))
    zero.features.update(color_features=bytes(4 * DIM))
    nan.features.update(color_features=np.full(DIM, np.nan, "<f4").tobytes())
    short.features.update(color_features=query[:-1].tobytes(), dim=DIM - 1)

    assert found(query) == [valid.pk]
