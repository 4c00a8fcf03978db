"""Search, build and describe the vector index, whichever engine holds the vectors.

SQLite catalogues are searched in the process, PostgreSQL ones in the database (``matching.pgvector``).
"""

from __future__ import annotations

from types import ModuleType

from django.db import connection

from matching.index.main_file import IndexFileError
from matching.index.types import (
    Filters,
    Hit,
    IndexStatus,
    Progress,
    SearchVectorError,
    Vectors,
    no_progress,
    validate_queries,
)
from matching.similarity import score_of

__all__ = [
    "Filters",
    "Hit",
    "IndexFileError",
    "SearchVectorError",
    "describe",
    "invalid_feature_ids",
    "maintain",
    "rebuild",
    "search",
]

NO_FILTERS = Filters()


def search(
    vectors: Vectors, k: int, *, kind: str, model: str, filters: Filters = NO_FILTERS, score_floor: float | None = None
) -> list[Hit]:
    """Return the k products most similar to any of the query vectors, best first.

    ``vectors`` (q, d) are unit float32. They are compared with the stored vectors of ``kind`` and ``model``.
    Returns k hits whenever k products qualify. Scores come from the stored float32 vectors. ``score_floor``: see
    ``score_of``.
    Raises SearchVectorError.
    """
    queries = validate_queries(vectors)
    hits: list[Hit] = _engine().search(queries, k, kind, model, filters) if k > 0 else []
    # Engines return 100 times the dot product. The score of a dot product depends on the kind.
    return [Hit(hit.image_id, hit.product_id, round(score_of(hit.score / 100, kind, score_floor), 6)) for hit in hits]


def rebuild(progress: Progress = no_progress) -> list[str]:
    """Rebuild the index of each catalogue that is large enough. Return a sentence for each.

    Calls ``progress(step, done, total)``. Raises IndexFileError.
    """
    sentences: list[str] = _engine().rebuild(progress)
    return sentences


def maintain() -> list[str]:
    """Build what is stale and prune the change log. Return a sentence for each build.

    Cheap if nothing is stale. Builds nothing while another process builds. Raises IndexFileError.
    """
    sentences: list[str] = _engine().maintain()
    return sentences


def describe() -> list[IndexStatus]:
    """Return for each kind and model how it is searched, what changed, and what to do."""
    statuses: list[IndexStatus] = _engine().describe()
    return statuses


def invalid_feature_ids() -> list[int]:
    """Return the ids of features that the engine found to be invalid.

    Some of them may have been repaired since.
    """
    ids: list[int] = _engine().invalid_feature_ids()
    return ids


def _engine() -> ModuleType:
    if connection.vendor == "postgresql":
        from matching.pgvector import engine

        return engine
    from matching.index import inprocess

    return inprocess
