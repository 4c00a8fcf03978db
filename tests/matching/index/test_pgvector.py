"""The graphs of the PostgreSQL engine: built during searches, filtered, and always with k results."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection

from gpu.vectors import CLIP, Features
from matching import index
from matching.index import Filters
from matching.pgvector import engine, graphs
from products.models import Feature, Product
from tests.helpers.threads import run_concurrently
from tests.helpers.vectors import MODEL, add_product, add_products, embeddings, exact_scores, random_vectors

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]

N = 1500


@pytest.fixture(autouse=True)
def _small_crossover(monkeypatch):
    monkeypatch.setattr(graphs, "MIN_VECTORS_FOR_ANN", 1000)
    monkeypatch.setattr(engine, "MAX_EXACT_ROWS", 50)


@pytest.fixture
def vectors() -> np.ndarray:
    return random_vectors(N, dim=64)


@pytest.fixture
def built(vectors) -> list[Product]:
    products = add_products(embeddings(vectors))
    assert len(index.rebuild()) == 1
    return products


def found(query: np.ndarray, k: int = 10, **filters) -> list[int]:
    return [hit.product_id for hit in index.search(query[None], k, kind=CLIP, model=MODEL, filters=Filters(**filters))]


def test_search_uses_the_graph(vectors, built):
    with connection.cursor() as cursor:
        where, parameters = engine._where(CLIP, MODEL, 64, Filters(historical=True))
        order = f"embedding::halfvec(64) <=> '{vectors[0].tolist()}'::halfvec(64)"
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN SELECT feature_id {where} ORDER BY {order} LIMIT 40", parameters)
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("RESET enable_seqscan")
    assert "search_vectors_hnsw_" in plan


def test_graph_finds_the_results_and_scores_of_exact_search(vectors, built):
    hit = 0
    for query in random_vectors(30, seed=8, dim=64):
        scores = exact_scores(query, vectors)
        by_product = dict(zip((product.pk for product in built), scores, strict=True))
        hits = index.search(query[None], 10, kind=CLIP, model=MODEL)
        hit += len({built[i].pk for i in np.argsort(-scores)[:10]} & {one.product_id for one in hits})
        assert [one.score for one in hits] == pytest.approx([by_product[one.product_id] for one in hits], abs=1e-4)
    assert hit >= 0.95 * 300


def test_selective_filter_still_returns_k_products(vectors, built, monkeypatch):
    monkeypatch.setattr(engine, "_MAX_SCAN_TUPLES", 100)
    Product.objects.filter(pk__in=[product.pk for product in built[:75]]).update(category="mugs")
    assert len(found(vectors[-1], 75, category="mugs")) == 75
    assert len(found(vectors[-1], 20, category="mugs", historical=True)) == 20


def test_changes_are_found_without_a_rebuild(vectors, built):
    new, moved = random_vectors(2, seed=77, dim=64)
    added = add_product(*embeddings([new]))
    built[5].features.update(**Feature.columns(Features.from_embedding(moved, MODEL)))
    built[7].delete()

    assert found(new, 1) == [added.pk]
    assert found(moved, 1) == [built[5].pk]
    assert built[7].pk not in found(vectors[7], 50)


def test_two_processes_add_vectors_without_waiting_for_each_other(vectors):
    add_products(embeddings(vectors[:300]))
    filled = run_concurrently(*[lambda: engine.fill_search_vectors(200)] * 2)
    assert sum(filled) + engine.fill_search_vectors(1000) == 300
    assert graphs.pending_count() == 0


def test_maintenance_builds_a_missing_graph_and_repairs_a_broken_one(vectors, built):
    assert index.maintain() == []
    [described] = index.describe()
    assert "HNSW" in described.text
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text LIKE '%hnsw%'")
    [described] = index.describe()
    assert "reindex --index-only" in described.remedy
    assert len(index.maintain()) == 1
    assert "HNSW" in index.describe()[0].text


def test_a_model_name_is_never_sql(vectors):
    name = 'it\'s 100% "mine"; DROP TABLE features; --'
    product = add_product(*embeddings(vectors[:1], model=name))
    hits = index.search(vectors[:1], 1, kind=CLIP, model=name, filters=Filters(historical=True))
    assert [hit.product_id for hit in hits] == [product.pk]
