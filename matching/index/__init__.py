"""The search index: ``search`` answers with the most similar products, whichever engine holds the vectors.

SQLite catalogues are searched inside the process, PostgreSQL ones by the database.
"""

from __future__ import annotations

from matching.index.protocol import Filters, Hit, SearchVectorError, Vectors, checked

__all__ = ["Filters", "Hit", "SearchVectorError", "search"]


EVERYTHING = Filters()


def search(vectors: Vectors, k: int, *, kind: str, model: str, filters: Filters = EVERYTHING) -> list[Hit]:
    """The k products whose best picture is most like any of the query rows (q, d), best first.

    The rows are unit float32; ``kind`` and ``model`` say which stored vectors they are compared with. There are k
    hits whenever k products qualify. Scores come from the stored float32 vectors. Raises SearchVectorError.
    """
    from matching.index import inprocess

    queries = checked(vectors)
    return inprocess.search(queries, k, kind, model, filters) if k > 0 else []
