"""The search index: ``search`` answers with the most similar products, whichever engine holds the vectors.

SQLite catalogues are searched inside the process, PostgreSQL ones by the database (the app ``matching.pgvector``).
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
    "IndexStatus",
    "SearchVectorError",
    "describe",
    'invalid_feature_ids',
    "maintain",
    "rebuild",
    "search",
]

NO_FILTERS = Filters()


def search(vectors: Vectors, k: int, *, kind: str, model: str, filters: Filters = NO_FILTERS) -> list[Hit]:
    """The k products whose best picture is most like any of the query rows (q, d), best first.

    The rows are unit float32; ``kind`` and ``model`` say which stored vectors they are compared with. There are k
    hits whenever k products qualify. Scores come from the stored float32 vectors. Raises SearchVectorError.
    """
    queries = validate_queries(vectors)
    hits: list[Hit] = _engine().search(queries, k, kind, model, filters) if k > 0 else []
    # Engines rank by 100 times the dot product; what that is worth as a score depends on the kind.
    return [Hit(hit.image_id, hit.product_id, round(score_of(hit.score / 100, kind), 6)) for hit in hits]


def rebuild(progress: Progress = no_progress) -> list[str]:
    """Build the index anew where a catalogue is large enough for one; answers a sentence for each that was built.

    ``progress(what, done, total)`` is called along the way. Raises BaseFileError.
    """
    built: list[str] = _engine().rebuild(progress)
    return built


def maintain() -> list[str]:
    """Build what is due, unless somebody is building, and prune. Cheap when nothing is due; may run any time.

    Raises BaseFileError.
    """
    built: list[str] = _engine().maintain()
    return built


def describe() -> list[IndexStatus]:
    """For each kind and model: how it is searched, what changed since, and what to do if anything."""
    described: list[IndexStatus] = _engine().describe()
    return described


def invalid_feature_ids() -> list[int]:
    """Ids of stored features that no search can use, as the engine met them; some may have been mended since."""
    found: list[int] = _engine().invalid_feature_ids()
    return found


def _engine() -> ModuleType:
    if connection.vendor == "postgresql":
        from matching.pgvector import engine

        return engine
    from matching.index import inprocess

    return inprocess
