"""Measure vector search at a given size of catalogue, beside the usual alternatives.

    python -m benchmarks.search --n 100000,1000000 [--dim 512] [--json PATH] [--contestants catalogmatch,numpy]

Every contestant builds and searches in processes of its own. benchmarks/vectors.py describes the vectors. Columns:

- p50_ms, p99_ms: one query at a time;
- queries_per_s: with two clients (threads);
- recall_at_10: share of the exact ten best that are found;
- build_s: time to build the index;
- start_s: from the start of a process to its first result, without imports;
- peak_mb: memory of the build;
- private_mb: memory of the searching process, without the files that processes share;
- file_mb: size of the index files.

All files are read once before the search is measured, because a server that runs all day has them in memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.contestants import CONTESTANTS, EXIT_FILLED, UnsupportedError, best_rows
from benchmarks.machine import describe_machine
from benchmarks.servers import postgres_server
from benchmarks.vectors import clip_like_vectors

QUERIES, WARM_UP = 200, 20
FILTERS = {"none": None, "10%": 1, "0.1%": 2}
COLUMNS = ("contestant", "n", "filter", "p50_ms", "p99_ms", "queries_per_s", "recall_at_10", "build_s", "start_s",
           "peak_mb", "private_mb", "file_mb")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", default="100000", help="numbers of vectors, separated by commas (default: 100000)")
    parser.add_argument("--dim", type=int, default=512, help="numbers in a vector; a head has 300 (default: 512)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS), help="separated by commas (default: all)")
    parser.add_argument("--folder", type=Path, help="where to put several GB (default: the system's temporary folder)")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        print(json.dumps(PHASES[options.phase](options.contestants, options.folder)))
        return
    for name, value in describe_machine().items():
        print(f"{name}: {value}")
    print("load average:", os.getloadavg()[0])
    print(" ".join(f"{column:>12}" for column in COLUMNS))
    rows: list[dict[str, Any]] = []
    names = options.contestants.split(",")
    with ExitStack() as stack:
        if {"pgvector", "catalogmatch-postgres"} & set(names):
            os.environ["PGVECTOR_URL"] = stack.enter_context(postgres_server())
        for n in map(int, options.n.split(",")):
            with tempfile.TemporaryDirectory(dir=options.folder, prefix="search-") as folder:
                prepare(Path(folder), n, options.dim)
                for name in names:
                    rows += measure_contestant(name, n, Path(folder))
                    if options.json:
                        options.json.write_text(json.dumps(rows, indent=1))


def prepare(folder: Path, n: int, dim: int = 512) -> None:
    """Write vectors, labels, queries and the exact results of each filter into the folder."""
    data = clip_like_vectors(n, QUERIES, dim)
    labels = np.zeros(n, np.uint8)
    shuffled = np.random.default_rng(2).permutation(n)
    labels[shuffled[: n // 10]] = 1
    labels[shuffled[n // 10 : n // 10 + max(1, n // 1000)]] = 2
    np.save(folder / "vectors.npy", data.vectors)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "queries.npy", data.queries)
    for name, label in FILTERS.items():
        rows = np.arange(n) if label is None else np.flatnonzero(labels == label)
        allowed = data.vectors if label is None else data.vectors[rows]
        truth = [rows[best_rows(allowed @ query)] for query in data.queries]
        np.save(folder / f"truth-{name}.npy", np.array(truth))


def measure_contestant(name: str, n: int, folder: Path) -> list[dict[str, Any]]:
    """Build and search in new processes. Print and return a row for each filter."""
    built = run_phase("build", name, folder)
    searched = built if "not_run" in built else run_phase("search", name, folder)
    if "not_run" in searched:
        print(f"{name:>12} {n:>12} not run: {searched['not_run']}", flush=True)
        return []
    rows = []
    for filter_name, figures in searched.pop("filters").items():
        row = {"contestant": name, "n": n, "filter": filter_name} | figures | built | searched
        rows.append(row)
        print(" ".join(f"{_format(row.get(column)):>12}" for column in COLUMNS), flush=True)
    return rows


def run_phase(phase: str, name: str, folder: Path) -> dict[str, Any]:
    """Run ``build`` or ``search`` of a contestant in a new process. Return its figures, or ``not_run`` with the reason.

    A process that had to fill its database first exits with EXIT_FILLED and runs again, so that the measured process
    has not filled anything.
    """
    options = ["--phase", phase, "--contestants", name, "--folder", str(folder)]
    command = [sys.executable, "-m", "benchmarks.search", *options]
    for _ in range(2):
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if process.returncode != EXIT_FILLED:
            break
    if process.returncode:
        return {"not_run": f"its process ended with {process.returncode}"}
    figures: dict[str, Any] = json.loads(process.stdout)
    return figures


def build(name: str, folder: Path) -> dict[str, Any]:
    before = _file_bytes(folder)
    start = time.perf_counter()
    try:
        CONTESTANTS[name]().build(folder)
    except UnsupportedError as error:
        return {"not_run": str(error)}
    seconds = time.perf_counter() - start
    return {"build_s": seconds, "peak_mb": _peak_mb(), "file_mb": (_file_bytes(folder) - before) / 1e6}


def search(name: str, folder: Path) -> dict[str, Any]:
    queries = np.load(folder / "queries.npy")
    contestant = CONTESTANTS[name]()
    start = time.perf_counter()
    contestant.open(folder)
    contestant.search(queries[0], None)
    if name == "catalogmatch":  # Django and FAISS are imported now. Open the index again to measure without imports.
        from matching.index import inprocess

        inprocess._catalogues.clear()
        start = time.perf_counter()
        contestant.search(queries[0], None)
    start_seconds = time.perf_counter() - start
    for path in contestant.files(folder):
        _read_whole(path)
    filters: dict[str, dict[str, float | None]] = {}
    for filter_name, label in FILTERS.items():
        try:
            filters[filter_name] = _measure(contestant, queries, label, np.load(folder / f"truth-{filter_name}.npy"))
        except UnsupportedError:
            filters[filter_name] = dict.fromkeys(("p50_ms", "p99_ms", "queries_per_s", "recall_at_10"))
    return {"start_s": start_seconds, "private_mb": _private_mb(), "filters": filters}


PHASES = {"build": build, "search": search}


def _measure(contestant: Any, queries: Any, label: int | None, truth: Any) -> dict[str, float | None]:
    for query in queries[:WARM_UP]:
        contestant.search(query, label)
    latencies, hits = [], 0
    for query, rows in zip(queries, truth, strict=True):
        start = time.perf_counter()
        result = contestant.search(query, label)
        latencies.append(time.perf_counter() - start)
        hits += len(np.intersect1d(result, rows))
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as clients:
        list(clients.map(lambda query: contestant.search(query, label), queries))
    rate = len(queries) / (time.perf_counter() - start)
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {"p50_ms": p50, "p99_ms": p99, "queries_per_s": rate, "recall_at_10": hits / truth.size}


def _read_whole(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _peak_mb() -> float:
    # Not from getrusage, which also counts the memory of the parent before the exec.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def _private_mb() -> float:
    """Return the memory that this process wrote. Pages of mapped files are shared and do not count."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.split("Private_Dirty:")[1].split()[0]) / 1e3


def _file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "sqlite3" not in path.name)


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
