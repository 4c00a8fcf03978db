"""The HNSW graphs: a partial index for each kind, model and length with enough vectors."""

from __future__ import annotations

import hashlib

from django.db import connection

from matching.index.types import IndexStatus, Progress

# Fewer vectors get no graph: PostgreSQL compares them in a few milliseconds.
MIN_VECTORS_FOR_ANN = 10_000
_BUILD_MEMORY = "1GB"  # a graph of a million vectors of 512 half floats takes about 1.5 GB on disk


def condition(kind: str, model: str, dim: int) -> str:
    """Return the WHERE of a graph.

    It has literals instead of parameters, because the planner must prove that a partial index applies.
    """
    return (
        f"search_vectors.kind = {_quoted(kind)} AND search_vectors.model_name = {_quoted(model)} "
        f"AND search_vectors.dim = {int(dim)}"
    )


def build(progress: Progress, *, rebuild: bool) -> list[str]:
    """Build the missing graphs, or all of them. Return a sentence for each.

    Searches can run at the same time.
    """
    sentences = []
    groups = [group for group in _groups() if group[3] >= MIN_VECTORS_FOR_ANN]
    with connection.cursor() as cursor:
        cursor.execute(f"SET maintenance_work_mem = '{_BUILD_MEMORY}'")
        for done, (kind, model, dim, count) in enumerate(groups):
            progress("graph", done, len(groups))
            name = _name(kind, model, dim)
            if _is_valid(name):
                if not rebuild:
                    continue
                cursor.execute(f"REINDEX INDEX CONCURRENTLY {name}")
            else:
                cursor.execute(f"DROP INDEX IF EXISTS {name}")  # left by an interrupted build
                cursor.execute(
                    f"CREATE INDEX CONCURRENTLY {name} ON search_vectors "
                    f"USING hnsw ((embedding::halfvec({dim})) halfvec_cosine_ops) WHERE {condition(kind, model, dim)}"
                )
            sentences.append(f"{kind} {model}: {count:,} vectors of {dim} dimensions")
            progress("graph", done + 1, len(groups))
        cursor.execute("RESET maintenance_work_mem")
    return sentences


def describe() -> list[IndexStatus]:
    """Return a status for each kind, model and length, and one for pending features."""
    statuses = []
    for kind, model, dim, count in _groups():
        has_graph = _is_valid(_name(kind, model, dim))
        remedy = "Run `manage.py reindex --index-only`." if count >= MIN_VECTORS_FOR_ANN and not has_graph else ""
        method = "searched by an HNSW graph" if has_graph else "searched exactly"
        statuses.append(IndexStatus(f"{kind} {model}: {count:,} vectors, {method} in PostgreSQL", remedy))
    if count := pending_count():
        statuses.append(IndexStatus(f"{count:,} features are not in the index yet"))
    return statuses


def pending_count() -> int:
    """Count the features whose search vector is still empty."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM search_vectors WHERE embedding IS NULL AND NOT unusable")
        return int(cursor.fetchone()[0])


def _groups() -> list[tuple[str, str, int, int]]:
    """Return (kind, model, length, number of vectors) of all filled search vectors."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, model_name, dim, count(*) FROM search_vectors WHERE dim IS NOT NULL "
            "GROUP BY kind, model_name, dim ORDER BY kind, model_name, dim"
        )
        return [(kind, model, dim, count) for kind, model, dim, count in cursor.fetchall()]


def _name(kind: str, model: str, dim: int) -> str:
    return "search_vectors_hnsw_" + hashlib.sha256(f"{kind} {dim} {model}".encode()).hexdigest()[:16]


def _is_valid(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
        row = cursor.fetchone()
    return bool(row and row[0])


def _quoted(text: str) -> str:
    from psycopg import sql

    return sql.Literal(text).as_string(None)
