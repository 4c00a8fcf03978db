"""The search methods that benchmarks/search.py compares, each behind the same interface.

``folder`` holds vectors.npy (n, d) and labels.npy (n,). The label is 1 for the tenth of the rows behind the 10 %
filter, 2 for the thousandth behind the 0.1 % filter, and 0 for the others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.vectors import MODEL, Vectors

K = 10
EXIT_FILLED = 9  # exit code of a process that filled its database and must run again
PART_ROWS = 20_000
CATEGORIES = ("", "a tenth", "a thousandth")

Rows = npt.NDArray[np.int64]


class UnsupportedError(Exception):
    """The contestant cannot do this. The message says why."""


class Contestant(Protocol):
    def build(self, folder: Path) -> None:
        """Build the index, once."""

    def open(self, folder: Path) -> None:
        """Open the index in a new process."""

    def files(self, folder: Path) -> Iterable[Path]:
        """Return the files that searching reads."""

    def search(self, query: Vectors, label: int | None) -> Rows:
        """Return the row numbers of the ten best, among the rows with this label if one is given."""


def load(folder: Path) -> tuple[Vectors, npt.NDArray[np.uint8]]:
    return np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "labels.npy")


def best_rows(scores: npt.NDArray[Any]) -> Rows:
    """Return the positions of the K highest scores, unordered; of all if there are fewer."""
    count = min(K, len(scores))
    return np.argpartition(scores, -count)[-count:]


class Numpy:
    """One matrix product and a partial sort. A filter copies the allowed rows first."""

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
    """The index of CatalogMatch on a SQLite catalogue with one image a product."""

    database = "sqlite"

    def build(self, folder: Path) -> None:
        self._set_up_django(folder)
        filled = folder / f"catalogue-{self.database}"
        if not filled.exists():
            self._fill(folder)
            filled.touch()
            raise SystemExit(EXIT_FILLED)
        from matching import index

        index.rebuild()

    def open(self, folder: Path) -> None:
        self._set_up_django(folder)
        from matching import index
        from matching.index import Filters

        self._index, self._filters = index, Filters

    def files(self, folder: Path) -> Iterable[Path]:
        return (path for path in (folder / "data").rglob("*") if path.is_file())

    def search(self, query: Vectors, label: int | None) -> Rows:
        filters = self._filters(historical=True, category=None if label is None else CATEGORIES[label])
        hits = self._index.search(query[None], K, kind="clip", model=MODEL, filters=filters)
        return np.array([hit.product_id - 1 for hit in hits])

    def _set_up_django(self, folder: Path) -> None:
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
        call_command("flush", verbosity=0, interactive=False)  # the server may hold a catalogue of another size
        vectors, labels = load(folder)
        catalogue.fill_database(vectors, [CATEGORIES[label] for label in labels])


class Hnswlib:
    """HNSW graph of float32 vectors, M 16, ef_construction 200, ef 100. Filters by callback."""

    def build(self, folder: Path) -> None:
        import hnswlib

        vectors, _ = load(folder)
        graph = hnswlib.Index("ip", vectors.shape[1])
        graph.init_index(len(vectors), M=16, ef_construction=200)
        for start in range(0, len(vectors), PART_ROWS):
            part = vectors[start : start + PART_ROWS]
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
            raise UnsupportedError("the graph finds too few rows behind so narrow a filter")
        keep = None if label is None else lambda row: self._labels[row] == label
        rows: Rows = self._graph.knn_query(query, K, num_threads=1, filter=keep)[0][0].astype(np.int64)
        return rows


class Usearch:
    """HNSW graph of half-precision vectors, connectivity 16, expansion 128 and 64, memory-mapped."""

    def build(self, folder: Path) -> None:
        from usearch.index import Index

        vectors, _ = load(folder)
        graph = Index(ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        for start in range(0, len(vectors), PART_ROWS):
            part = np.array(vectors[start : start + PART_ROWS])
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
    """Exact search inside SQLite. Filters by a metadata column of the virtual table.

    Uses apsw, because the sqlite3 module of many Python builds cannot load extensions.
    """

    def build(self, folder: Path) -> None:
        connection = self._connect(folder)
        vectors, labels = load(folder)
        connection.execute(
            f"CREATE VIRTUAL TABLE v USING vec0(embedding float[{vectors.shape[1]}] distance_metric=cosine, label int)"
        )
        for start in range(0, len(vectors), PART_ROWS):
            rows = range(start, min(start + PART_ROWS, len(vectors)))
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
        rows = self._threads.connection.execute(sql, (query.tobytes(), *extra))
        return np.array([row[0] for row in rows])

    def _connect(self, folder: Path) -> Any:
        import apsw
        import sqlite_vec

        connection = apsw.Connection(str(folder / "sqlite-vec"))
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        return connection


class Pgvector:
    """HNSW graph of half-precision vectors in PostgreSQL, m 16, ef_construction 64, ef 100.

    Filters by iterative scan. ``PGVECTOR_URL`` is the server's URL. Memory and file sizes are the client's.
    """

    max_vectors = 200_000  # above that, two cores build the graph for too long

    def build(self, folder: Path) -> None:
        vectors, labels = load(folder)
        if len(vectors) > self.max_vectors:
            raise UnsupportedError(f"a graph of more than {self.max_vectors:,} vectors takes too long to build")
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
        return _server_files(self._connect())

    def search(self, query: Vectors, label: int | None) -> Rows:
        if not hasattr(self._threads, "connection"):
            self._threads.connection = self._connect()
            self._threads.connection.execute("SET hnsw.ef_search = 100; SET hnsw.iterative_scan = strict_order")
        where, extra = ("", ()) if label is None else ("WHERE label = %s", (label,))
        sql = f"SELECT id FROM v {where} ORDER BY embedding <=> %s LIMIT {K}"
        rows = self._threads.connection.execute(sql, (*extra, str(query.tolist())))
        return np.array([row[0] for row in rows])

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(os.environ["PGVECTOR_URL"], autocommit=True)


class CatalogMatchPostgres(CatalogMatch):
    """CatalogMatch on the same PostgreSQL server."""

    database = "postgres"

    def files(self, folder: Path) -> Iterable[Path]:
        from django.db import connection

        connection.ensure_connection()
        return _server_files(connection.connection)

    def build(self, folder: Path) -> None:
        if len(load(folder)[1]) > Pgvector.max_vectors:
            raise UnsupportedError("see pgvector")
        super().build(folder)


def _server_files(connection: Any) -> Iterable[Path]:
    """Return the files of the server's tables and graphs. The server runs on this machine."""
    [data_folder] = connection.execute("SELECT current_setting('data_directory')").fetchone()
    return (path for path in Path(data_folder, "base").rglob("*") if path.is_file())


CONTESTANTS: dict[str, type[Contestant]] = {
    "catalogmatch": CatalogMatch,
    "numpy": Numpy,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "sqlite-vec": SqliteVec,
    "pgvector": Pgvector,
    "catalogmatch-postgres": CatalogMatchPostgres,
}
