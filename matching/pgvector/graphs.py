"""The HNSW graphs: one partial index for each kind, model and length that has enough vectors."""

from __future__ import annotations

import hashlib

from django.db import connection

from matching.index.types import IndexStatus, Progress

# Vectors from which a graph is built; PostgreSQL compares fewer in a few milliseconds.
MIN_VECTORS_FOR_ANN = 10_000
_MEMORY = "1GB"  # for building; a graph of a million vectors of 512 half floats takes about 1.5 GB on disk


def condition(kind: str, model: str, dim: int) -> str:
    """The WHERE of a graph. Literals, not parameters: the planner only uses a partial index that it can prove."""
    return (
        f"search_vectors.kind = {_quoted(kind)} AND search_vectors.model_name = {_quoted(model)} "
        f"AND search_vectors.dim = {int(dim)}"
    )


def build(anew: bool, progress: Progress) -> list[str]:
    """Build the graphs that are missing, or all of them ``anew``, beside running searches; answers what was built."""
    built = []
    groups = [group for group in _groups() if group[3] >= MIN_VECTORS_FOR_ANN]
    with connection.cursor() as cursor:
        cursor.execute(f"SET maintenance_work_mem = '{_MEMORY}'")
        for done, (kind, model, dim, number) in enumerate(groups):
            progress("graph", done, len(groups))
            name = _name(kind, model, dim)
            if _is_valid(name):
                if not anew:
                    continue
                cursor.execute(f"REINDEX INDEX CONCURRENTLY {name}")
            else:
                cursor.execute(f"DROP INDEX IF EXISTS {name}")  # of a build that was broken off
                cursor.execute(
                    f"CREATE INDEX CONCURRENTLY {name} ON search_vectors "
                    f"USING hnsw ((embedding::halfvec({dim})) halfvec_cosine_ops) WHERE {condition(kind, model, dim)}"
                )
            built.append(f"{kind} {model}: {number:,} vectors of {dim} dimensions")
            progress("graph", done + 1, len(groups))
        cursor.execute("RESET maintenance_work_mem")
    return built


def describe() -> list[IndexStatus]:
    """A line for each kind, model and length, and one for what waits."""
    described = []
    for kind, model, dim, number in _groups():
        graph = _is_valid(_name(kind, model, dim))
        remedy = "Run `manage.py reindex --index-only`." if number >= MIN_VECTORS_FOR_ANN and not graph else ""
        how = "found by an HNSW graph" if graph else "compared one by one"
        described.append(IndexStatus(f"{kind} {model}: {number:,} vectors, {how} in PostgreSQL", remedy))
    if number := missing_graphs():
        described.append(IndexStatus(f"{number:,} features wait to be taken into the index"))
    return described


def missing_graphs() -> int:
    """Features whose embedding is not in the index yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM search_vectors WHERE embedding IS NULL AND NOT unusable")
        return int(cursor.fetchone()[0])


def _groups() -> list[tuple[str, str, int, int]]:
    """(kind, model, length, vectors)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, model_name, dim, count(*) FROM search_vectors WHERE dim IS NOT NULL "
            "GROUP BY kind, model_name, dim ORDER BY kind, model_name, dim"
        )
        return [(kind, model, dim, number) for kind, model, dim, number in cursor.fetchall()]


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
