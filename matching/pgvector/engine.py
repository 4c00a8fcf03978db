"""The engine in PostgreSQL: HNSW graphs find rows, stored float32 vectors score them.

The graphs hold half-precision vectors. Filters are joins, so that changed products count at once. pgvector's iterative
scan goes through the graph until enough rows pass them. If few rows pass, all of them are compared. Source of the
graph: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using HNSW graphs", 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from gpu.vectors import COLOR_BINS, HEAD, LEGACY
from matching.index import loading
from matching.index.confirmed import CONFIRMED
from matching.index.types import (
    Filters,
    Hit,
    Ids,
    IndexStatus,
    Progress,
    SearchVectorError,
    Vectors,
    no_progress,
    rank_products,
)
from matching.pgvector import graphs
from products.models import Feature

# If a filter passes at most so many vectors, the search is exact.
MAX_EXACT_ROWS = 1500
_FILLED_PER_SEARCH = 1000  # new features; the next searches and ``maintain`` fill the others
_FILL_BATCH = 5000
# For heads, a new product that was confirmed to be one catalogue product counts as one too.
_HISTORICAL = f"(products.is_historical OR products.id IN ({CONFIRMED.format('')})) = %s"
_MIN_EF_SEARCH, _MAX_EF_SEARCH = 100, 1000  # candidates that a scan of the graph keeps; pgvector allows 1000
_MAX_SCAN_TUPLES = 40_000  # rows of the graph that a filtered scan may visit


def search(queries: Vectors, k: int, kind: str, model: str, filters: Filters) -> list[Hit]:
    """See ``matching.index.search``."""
    fill_search_vectors(_FILLED_PER_SEARCH)
    dim = queries.shape[1]
    with transaction.atomic(), connection.cursor() as cursor:
        where, parameters = _where(kind, model, dim, filters)
        cursor.execute(f"SELECT feature_id {where} LIMIT {MAX_EXACT_ROWS + 1}", parameters)
        few = np.array([row[0] for row in cursor.fetchall()], np.int64)
        if not len(few):
            _check_dim(cursor, kind, model, dim)
            return []
        if len(few) <= MAX_EXACT_ROWS:
            return _rank(queries, few, kind, model)[:k]
        count = 2 * k + 20
        while True:
            features, is_complete = _nearest(cursor, queries, count, where, parameters)
            hits = _rank(queries, features, kind, model)
            if len(hits) >= k or is_complete:
                return hits[:k]
            count *= 4


def fill_search_vectors(limit: int) -> int:
    """Fill up to ``limit`` empty search vectors. Return how many rows were processed.

    Skips rows that another process has locked. The row is locked before its feature is read. A feature that is written
    at the same time therefore empties the row after this transaction.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT feature_id FROM search_vectors WHERE embedding IS NULL AND NOT unusable "
            "ORDER BY feature_id LIMIT %s FOR UPDATE SKIP LOCKED",
            [limit],
        )
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return 0
        pending = Feature.objects.filter(id__in=ids).order_by("id")
        groups: dict[tuple[str, str, int], list[int]] = {}
        for feature, kind, model, dim in pending.values_list("id", "kind", "model_name", "dim"):
            groups.setdefault((kind, model, dim), []).append(feature)
        for (kind, model, dim), features in groups.items():
            for block in loading.fetch(kind, model, dim, np.array(features, np.int64)):
                cursor.executemany(
                    "UPDATE search_vectors SET embedding = %s::halfvec, dim = %s WHERE feature_id = %s",
                    [
                        (_literal(vector), len(vector), int(feature))
                        for feature, vector in zip(block.feature, block.vectors, strict=True)
                    ],
                )
                cursor.execute(
                    "UPDATE search_vectors SET unusable = true WHERE feature_id = ANY(%s)", [block.invalid_ids]
                )
    return len(ids)


def rebuild(progress: Progress) -> list[str]:
    """See ``matching.index.rebuild``."""
    _fill_all(progress)
    return graphs.build(progress, rebuild=True)


def maintain() -> list[str]:
    """See ``matching.index.maintain``."""
    _fill_all(no_progress)
    return graphs.build(no_progress, rebuild=False)


def describe() -> list[IndexStatus]:
    """See ``matching.index.describe``."""
    return graphs.describe()


def invalid_feature_ids() -> list[int]:
    """See ``matching.index.invalid_feature_ids``."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT feature_id FROM search_vectors WHERE unusable ORDER BY feature_id")
        return [row[0] for row in cursor.fetchall()]


def _fill_all(progress: Progress) -> None:
    done = 0
    while filled := fill_search_vectors(_FILL_BATCH):
        done += filled
        progress("fill", done, done + graphs.pending_count())


def _where(kind: str, model: str, dim: int, filters: Filters) -> tuple[str, list[Any]]:
    """Return FROM and WHERE of the vectors that qualify, and the parameters.

    Starts with the graph's own condition, so that the planner can use the graph.
    """
    conditions, parameters = [graphs.condition(kind, model, dim).replace("%", "%%")], list[Any]()
    join = ""
    if filters.historical is not None or filters.category is not None:
        join = "JOIN products ON products.id = search_vectors.product_id"
    for condition, value in (
        (_HISTORICAL if kind == HEAD else "products.is_historical = %s", filters.historical),
        ("products.category = %s", filters.category),
        ("product_id <> %s", filters.exclude_product),
        ("product_id = ANY(%s)", None if filters.product_ids is None else list(filters.product_ids)),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    return f"FROM search_vectors {join} WHERE {' AND '.join(conditions)}", parameters


def _nearest(cursor: Any, queries: Vectors, count: int, where: str, parameters: list[Any]) -> tuple[Ids, bool]:
    """Return ids of the ``count`` features nearest to each query, and whether these are all."""
    cursor.execute(
        f"SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.max_scan_tuples = {_MAX_SCAN_TUPLES}; "
        f"SET LOCAL hnsw.ef_search = {min(_MAX_EF_SEARCH, max(_MIN_EF_SEARCH, count))}"
    )
    features: set[int] = set()
    is_complete = False
    for query in queries:
        order = f"embedding::halfvec({len(query)}) <=> %s::halfvec({len(query)})"
        sql, values = f"SELECT feature_id {where} ORDER BY {order} LIMIT {count}", [*parameters, _literal(query)]
        cursor.execute(sql, values)
        rows = cursor.fetchall()
        if len(rows) < count:
            # The scan stopped before enough rows passed the filters. Compare all rows.
            cursor.execute("SET LOCAL enable_indexscan = off")
            cursor.execute(sql, values)
            rows = cursor.fetchall()
            cursor.execute("SET LOCAL enable_indexscan = on")
            is_complete = is_complete or len(rows) < count
        features.update(row[0] for row in rows)
    return np.array(sorted(features), np.int64), is_complete


def _rank(queries: Vectors, features: Ids, kind: str, model: str) -> list[Hit]:
    dim = _stored_dim(kind, queries.shape[1])
    blocks = list(loading.fetch(kind, model, dim, features))
    if not blocks:
        return []
    loading.log_invalid(kind, model, [feature for block in blocks for feature in block.invalid_ids])
    return rank_products(
        queries,
        np.concatenate([block.vectors for block in blocks]),
        np.concatenate([block.image for block in blocks]),
        np.concatenate([block.product for block in blocks]),
    )


def _check_dim(cursor: Any, kind: str, model: str, dim: int) -> None:
    cursor.execute(
        "SELECT dim FROM search_vectors WHERE kind = %s AND model_name = %s AND dim IS NOT NULL LIMIT 1", [kind, model]
    )
    row = cursor.fetchone()
    if row is not None and row[0] != dim:
        raise SearchVectorError(f"The query has {dim} dimensions, the stored vectors of {model} have {row[0]}.")


def _stored_dim(kind: str, dim: int) -> int:
    """Return the length of the stored colour vector for search vectors of length ``dim``."""
    return COLOR_BINS if kind == LEGACY else dim


def _literal(vector: npt.NDArray[np.float32]) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"
