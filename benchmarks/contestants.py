"""The ways of searching that benchmarks/search.py compares, each behind the same three calls.

``build(folder)`` once, ``open(folder)`` in a new process, ``search(query, filter)`` → row numbers of the best ten;
``files(folder)``: what is read from the disk meanwhile.
``folder`` holds vectors.npy (n, d) and labels.npy (n,): 1 for the tenth of the rows that the 10 % filter leaves,
2 for the thousandth that the 0.1 % filter leaves, 0 for the others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

K = 10
MODEL = "clip-ViT-B-32"  # the default, so that the web server takes the vectors for its own
CATEGORIES = ("", "a tenth", "a thousandth")

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class UnsupportedError(Exception):
    """This contestant cannot do that; the text says why."""


class Contestant(Protocol):
    def build(self, folder: Path) -> None: ...
    def open(self, folder: Path) -> None: ...
    def files(self, folder: Path) -> Iterable[Path]: ...
    def search(self, query: Vectors, label: int | None) -> Rows: ...


def load(folder: Path) -> tuple[Vectors, npt.NDArray[np.uint8]]:
    return np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "labels.npy")


def best_rows(scores: npt.NDArray[Any]) -> Rows:
    """Return the positions of the K highest scores, unordered; of all if there are fewer."""
    count = min(K, len(scores))
    return np.argpartition(scores, -count)[-count:]


class Numpy:
    """One matrix product and a partial sort; a filter takes the qualifying rows out first."""

    def build(self, folder: Path) -> None:
        pass

    def open(self, folder: Path) -> None:
        vectors, self._labels = load(folder)
        self._vectors = np.array(vectors)

    def files(self, folder: Path) -> Iterable[Path]:
        return ()

    def search(self, query: Vectors, label: int | None) -> Rows:
        if label is None:
            return best_rows(self._vectors @ query)
        rows = np.flatnonzero(self._labels == label)
        return rows[best_rows(self._vectors[rows] @ query)]


class CatalogMatch:
    """This program, on a SQLite catalogue with one picture a product: the index's public functions."""

    database = "sqlite"

    def build(self, folder: Path) -> None:
        self._django(folder)
        filled = folder / f"catalogue-{self.database}"
        if not filled.exists():
            self._fill(folder)
            filled.touch()
            raise SystemExit(9)  # measured again in a new process, so that filling does not count
        from matching import index

        index.rebuild()

    def open(self, folder: Path) -> None:
        self._django(folder)
        from matching import index
        from matching.index import Filters

        self._index, self._filters = index, Filters

    def files(self, folder: Path) -> Iterable[Path]:
        return (path for path in (folder / "data").rglob("*") if path.is_file())

    def search(self, query: Vectors, label: int | None) -> Rows:
        filters = self._filters(historical=True, category=None if label is None else CATEGORIES[label])
        hits = self._index.search(query[None], K, kind="clip", model=MODEL, filters=filters)
        return np.array([hit.product_id - 1 for hit in hits])

    def _django(self, folder: Path) -> None:
        os.environ |= {
            "CATALOGMATCH_ENV_FILE": os.devnull,
            "CATALOGMATCH_DATA_DIR": str(folder / "data"),
            "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
            "DJANGO_DEBUG": "0",
            "DJANGO_SECRET_KEY": "for the benchmark only",
        }
        os.environ.pop("DATABASE_URL", None)
        if self.database == "postgres":
            os.environ["DATABASE_URL"] = os.environ["PGVECTOR_URL"]
        import django

        django.setup()

    def _fill(self, folder: Path) -> None:
        from django.core.management import call_command

        from benchmarks import catalogue

        call_command("migrate", verbosity=0)
        call_command("flush", verbosity=0, interactive=False)  # a server may hold the catalogue of another size
        vectors, labels = load(folder)
        catalogue.write(vectors, [CATEGORIES[label] for label in labels])


class Hnswlib:
    """HNSW graph of float32, M 16, ef_construction 200, ef 100; filters by its callback."""

    def build(self, folder: Path) -> None:
        import hnswlib

        vectors, _ = load(folder)
        graph = hnswlib.Index("ip", vectors.shape[1])
        graph.init_index(len(vectors), M=16, ef_construction=200)
        for start in range(0, len(vectors), 20_000):
            part = vectors[start : start + 20_000]
            graph.add_items(part, np.arange(start, start + len(part)))
        graph.save_index(str(folder / "hnswlib"))

    def open(self, folder: Path) -> None:
        import hnswlib

        vectors, labels = load(folder)
        self._labels = labels.tolist()
        self._graph = hnswlib.Index("ip", vectors.shape[1])
        self._graph.load_index(str(folder / "hnswlib"))
        self._graph.set_ef(100)

    def files(self, folder: Path) -> Iterable[Path]:
        return ()

    def search(self, query: Vectors, label: int | None) -> Rows:
        if label == 2:
            raise UnsupportedError("the graph runs dry behind so narrow a filter")
        keep = None if label is None else lambda row: self._labels[row] == label
        rows: Rows = self._graph.knn_query(query, K, num_threads=1, filter=keep)[0][0].astype(np.int64)
        return rows


class Usearch:
    """HNSW graph of half-precision vectors, connectivity 16, expansion 128 and 64; mapped from its file."""

    def build(self, folder: Path) -> None:
        from usearch.index import Index

        vectors, _ = load(folder)
        graph = Index(ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        for start in range(0, len(vectors), 20_000):
            part = np.array(vectors[start : start + 20_000])
            graph.add(np.arange(start, start + len(part)), part)
        graph.save(str(folder / "usearch"))

    def open(self, folder: Path) -> None:
        from usearch.index import Index

        graph: Any = Index.restore(str(folder / "usearch"), view=True)
        self._graph = graph
        self._graph.expansion_search = 64

    def files(self, folder: Path) -> Iterable[Path]:
        return (folder / "usearch",)

    def search(self, query: Vectors, label: int | None) -> Rows:
        if label is not None:
            raise UnsupportedError("its Python package has no filters")
        rows: Rows = self._graph.search(query, K).keys.astype(np.int64)
        return rows


class SqliteVec:
    """Exact search inside SQLite; a filter is a metadata column of the virtual table.

    Through apsw, since many a Python's own sqlite3 is built without extensions.
    """

    def build(self, folder: Path) -> None:
        connection = self._connect(folder)
        vectors, labels = load(folder)
        connection.execute(
            f"CREATE VIRTUAL TABLE v USING vec0(embedding float[{vectors.shape[1]}] distance_metric=cosine, label int)"
        )
        for start in range(0, len(vectors), 20_000):
            rows = range(start, min(start + 20_000, len(vectors)))
            with connection:
                connection.executemany(
                    "INSERT INTO v (rowid, embedding, label) VALUES (?, ?, ?)",
                    ((row, vectors[row].tobytes(), int(labels[row])) for row in rows),
                )

    def open(self, folder: Path) -> None:
        self._folder = folder
        self._threads = threading.local()

    def files(self, folder: Path) -> Iterable[Path]:
        return (folder / "sqlite-vec",)

    def search(self, query: Vectors, label: int | None) -> Rows:
        where, extra = ("", ()) if label is None else (" AND label = ?", (label,))
        sql = f"SELECT rowid FROM v WHERE embedding MATCH ? AND k = {K}{where}"
        if not hasattr(self._threads, "connection"):
            self._threads.connection = self._connect(self._folder)
        found = self._threads.connection.execute(sql, (query.tobytes(), *extra))
        return np.array([row[0] for row in found])

    def _connect(self, folder: Path) -> Any:
        import apsw
        import sqlite_vec

        connection = apsw.Connection(str(folder / "sqlite-vec"))
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        return connection


class Pgvector:
    """HNSW graph of half-precision vectors in PostgreSQL, m 16, ef_construction 64, ef 100; filters by iterative scan.

    ``PGVECTOR_URL`` is the server's address (see benchmarks/servers.py). Memory and file sizes are the client's.
    """

    most = 200_000  # above that, two cores build the graph for longer than anybody waits for a benchmark

    def build(self, folder: Path) -> None:
        vectors, labels = load(folder)
        if len(vectors) > self.most:
            raise UnsupportedError(f"a graph of more than {self.most:,} vectors takes two cores very long to build")
        connection = self._connect()
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("DROP TABLE IF EXISTS v")
        connection.execute(f"CREATE TABLE v (id int PRIMARY KEY, label int, embedding halfvec({vectors.shape[1]}))")
        with connection.cursor().copy("COPY v FROM STDIN") as copy:
            for row, (vector, label) in enumerate(zip(vectors, labels, strict=True)):
                copy.write_row((row, int(label), str(vector.tolist())))
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.execute("CREATE INDEX ON v USING hnsw (embedding halfvec_cosine_ops)")
        connection.execute("CREATE INDEX ON v (label)")
        connection.execute("VACUUM ANALYZE v")

    def open(self, folder: Path) -> None:
        self._threads = threading.local()

    def files(self, folder: Path) -> Iterable[Path]:
        return _of_server(self._connect())

    def search(self, query: Vectors, label: int | None) -> Rows:
        if not hasattr(self._threads, "connection"):
            self._threads.connection = self._connect()
            self._threads.connection.execute("SET hnsw.ef_search = 100; SET hnsw.iterative_scan = strict_order")
        where, extra = ("", ()) if label is None else ("WHERE label = %s", (label,))
        sql = f"SELECT id FROM v {where} ORDER BY embedding <=> %s LIMIT {K}"
        found = self._threads.connection.execute(sql, (*extra, str(query.tolist())))
        return np.array([row[0] for row in found])

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(os.environ["PGVECTOR_URL"], autocommit=True)


class CatalogMatchPostgres(CatalogMatch):
    """This program on the same PostgreSQL server."""

    database = "postgres"

    def files(self, folder: Path) -> Iterable[Path]:
        from django.db import connection

        connection.ensure_connection()
        return _of_server(connection.connection)

    def build(self, folder: Path) -> None:
        if len(load(folder)[1]) > Pgvector.most:
            raise UnsupportedError("see pgvector")
        super().build(folder)


def _of_server(connection: Any) -> Iterable[Path]:
    """The files of the server's tables and graphs; it runs on the same machine."""
    [tables] = connection.execute("SELECT current_setting('data_directory')").fetchone()
    return (path for path in Path(tables, "base").rglob("*") if path.is_file())


CONTESTANTS: dict[str, type[Contestant]] = {
    "catalogmatch": CatalogMatch,
    "numpy": Numpy,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "sqlite-vec": SqliteVec,
    "pgvector": Pgvector,
    "catalogmatch-postgres": CatalogMatchPostgres,
}
