"""Search in PostgreSQL: HNSW graphs over half-precision vectors find, the stored float32 vectors score.

Filters are joins, so that changed products count at once. pgvector's iterative scan goes on through the graph until
enough rows pass them; where few can pass, those are all read and compared instead. Source of the graph: Malkov and
Yashunin, "Efficient and robust approximate nearest neighbor search using HNSW graphs", 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from gpu.vectors import CLIP, COLOR_BINS
from matching.index import loading
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

# A filter that leaves at most so many vectors is answered exactly.
MAX_EXACT_ROWS = 1500
# New features that one search takes along; the rest follow with the next searches and with the upkeep.
_TAKEN_ALONG = 1000
_EF_SEARCH = 100  # candidates that a scan of the graph keeps
_SCANNED_MOST = 40_000  # rows of the graph that filters may make a scan go through


def search(queries: Vectors, k: int, kind: str, model: str, filters: Filters) -> list[Hit]:
    """See ``matching.index.search``."""
    fill_search_vectors(_TAKEN_ALONG)
    dim = queries.shape[1]
    with transaction.atomic(), connection.cursor() as cursor:
        where, parameters = _where(kind, model, dim, filters)
        cursor.execute(f"SELECT feature_id {where} LIMIT {MAX_EXACT_ROWS + 1}", parameters)
        few = np.array([row[0] for row in cursor.fetchall()], np.int64)
        if not len(few):
            _refuse_other_lengths(cursor, kind, model, dim)
            return []
        if len(few) <= MAX_EXACT_ROWS:
            return _ranked(queries, few, kind, model)[:k]
        want = 2 * k + 20
        while True:
            features, complete = _nearest(cursor, queries, want, where, parameters)
            hits = _ranked(queries, features, kind, model)
            if len(hits) >= k or complete:
                return hits[:k]
            want *= 4


def fill_search_vectors(most: int) -> int:
    """Compute the embeddings of up to ``most`` features that have none yet; answers how many were looked at.

    Rows that another process is at are left to it. The row is locked before its feature is read, so a feature
    that is written meanwhile comes after us and empties the row again.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT feature_id FROM search_vectors WHERE embedding IS NULL AND NOT unusable "
            "ORDER BY feature_id LIMIT %s FOR UPDATE SKIP LOCKED",
            [most],
        )
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return 0
        waiting = Feature.objects.filter(id__in=ids).order_by("id")
        groups: dict[tuple[str, str, int], list[int]] = {}
        for feature, kind, model, dim in waiting.values_list("id", "kind", "model_name", "dim"):
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
                cursor.execute("UPDATE search_vectors SET unusable = true WHERE feature_id = ANY(%s)", [block.refused])
    return len(ids)


def rebuild(progress: Progress) -> list[str]:
    """See ``matching.index.rebuild``."""
    _fill_all(progress)
    return graphs.build(anew=True, progress=progress)


def maintain() -> list[str]:
    """See ``matching.index.upkeep``."""
    _fill_all(no_progress)
    return graphs.build(anew=False, progress=no_progress)


def describe() -> list[IndexStatus]:
    """See ``matching.index.describe``."""
    return graphs.describe()


def invalid_feature_ids() -> list[int]:
    """See ``matching.index.refused``."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT feature_id FROM search_vectors WHERE unusable ORDER BY feature_id")
        return [row[0] for row in cursor.fetchall()]


def _fill_all(progress: Progress) -> None:
    done = 0
    while filled := fill_search_vectors(5000):
        done += filled
        progress("fill", done, done + graphs.missing_graphs())


def _where(kind: str, model: str, dim: int, filters: Filters) -> tuple[str, list[Any]]:
    """FROM and WHERE of the vectors that qualify. Kind, model and length must read as in the graphs' conditions."""
    conditions, parameters = [graphs.condition(kind, model, dim).replace("%", "%%")], list[Any]()
    join = ""
    if filters.historical is not None or filters.category is not None:
        join = "JOIN products ON products.id = search_vectors.product_id"
    for condition, value in (
        ("products.is_historical = %s", filters.historical),
        ("products.category = %s", filters.category),
        ("product_id <> %s", filters.exclude_product),
        ("product_id = ANY(%s)", None if filters.product_ids is None else list(filters.product_ids)),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    return f"FROM search_vectors {join} WHERE {' AND '.join(conditions)}", parameters


def _nearest(cursor: Any, queries: Vectors, want: int, where: str, parameters: list[Any]) -> tuple[Ids, bool]:
    """Ids of the ``want`` features nearest to each query, and whether no others qualify."""
    cursor.execute(
        f"SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.max_scan_tuples = {_SCANNED_MOST}; "
        f"SET LOCAL hnsw.ef_search = {min(1000, max(_EF_SEARCH, want))}"
    )
    found: set[int] = set()
    complete = False
    for query in queries:
        order = f"embedding::halfvec({len(query)}) <=> %s::halfvec({len(query)})"
        sql, values = f"SELECT feature_id {where} ORDER BY {order} LIMIT {want}", [*parameters, _literal(query)]
        cursor.execute(sql, values)
        rows = cursor.fetchall()
        if len(rows) < want:
            # The graph was given up before enough rows passed the filters: compare all of them.
            cursor.execute("SET LOCAL enable_indexscan = off")
            cursor.execute(sql, values)
            rows = cursor.fetchall()
            cursor.execute("SET LOCAL enable_indexscan = on")
            complete = complete or len(rows) < want
        found.update(row[0] for row in rows)
    return np.array(sorted(found), np.int64), complete


def _ranked(queries: Vectors, features: Ids, kind: str, model: str) -> list[Hit]:
    dim = _stored_dim(kind, queries.shape[1])
    blocks = list(loading.fetch(kind, model, dim, features))
    if not blocks:
        return []
    return rank_products(
        queries,
        np.concatenate([block.vectors for block in blocks]),
        np.concatenate([block.image for block in blocks]),
        np.concatenate([block.product for block in blocks]),
    )


def _refuse_other_lengths(cursor: Any, kind: str, model: str, dim: int) -> None:
    cursor.execute(
        "SELECT dim FROM search_vectors WHERE kind = %s AND model_name = %s AND dim IS NOT NULL LIMIT 1", [kind, model]
    )
    row = cursor.fetchone()
    if row is not None and row[0] != dim:
        raise SearchVectorError(f"The query has {dim} dimensions, the stored vectors of {model} have {row[0]}.")


def _stored_dim(kind: str, dim: int) -> int:
    """Length of the stored colour vector whose search vector has ``dim`` numbers."""
    return dim if kind == CLIP else COLOR_BINS


def _literal(vector: npt.NDArray[np.float32]) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"
