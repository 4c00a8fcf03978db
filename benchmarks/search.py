"""What a search costs at a given size of catalogue, side by side with what one would use instead.

    python -m benchmarks.search --n 100000,1000000 [--json PATH] [--contestants catalogmatch,numpy]

Every contestant builds and searches in processes of its own. Vectors: see benchmarks/vectors.py. Columns: build time
in seconds; start of a new process to its first answer, imports aside; peak memory of the build and private memory of
the searching process in MB (so the file that processes share does not count); p50 and p99 of one query at a time;
queries a second with two clients (threads); recall of the ten best against exact search. Files that are read while
searching are read once before they are measured, as a server that answers all day has them in memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Instead of this file's folder, whose http.py would hide Python's own.
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

from benchmarks.contestants import CONTESTANTS, UnsupportedError, best_rows
from benchmarks.machine import describe_machine
from benchmarks.servers import postgres_server
from benchmarks.vectors import catalogue

QUERIES = 200
FILTERS = {"none": None, "10%": 1, "0.1%": 2}
COLUMNS = ("contestant", "n", "filter", "p50_ms", "p99_ms", "queries_per_s", "recall_at_10", "build_s", "start_s",
           "peak_mb", "private_mb", "file_mb")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", default="100000", help="sizes, separated by commas")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS), help="which, separated by commas")
    parser.add_argument("--folder", type=Path, help="where to work, several GB; default: a temporary folder")
    parser.add_argument("--phase", choices=["build", "search"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        print(json.dumps({"build": build, "search": search}[options.phase](options.contestants, options.folder)))
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
                prepare(Path(folder), n)
                for name in names:
                    rows += measured(name, n, Path(folder))
                    if options.json:
                        options.json.write_text(json.dumps(rows, indent=1))


def prepare(folder: Path, n: int) -> None:
    """Write vectors, labels, queries and the exact answers into the folder."""
    made = catalogue(n, QUERIES)
    labels = np.zeros(n, np.uint8)
    shuffled = np.random.default_rng(2).permutation(n)
    labels[shuffled[: n // 10]] = 1
    labels[shuffled[n // 10 : n // 10 + max(1, n // 1000)]] = 2
    np.save(folder / "vectors.npy", made.vectors)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "queries.npy", made.queries)
    for name, label in FILTERS.items():
        rows = np.arange(n) if label is None else np.flatnonzero(labels == label)
        of_rows = made.vectors if label is None else made.vectors[rows]
        truth = [rows[best_rows(of_rows @ query)] for query in made.queries]
        np.save(folder / f"truth-{name}.npy", np.array(truth))


def measured(name: str, n: int, folder: Path) -> list[dict[str, Any]]:
    """Build and search in new processes; prints and answers one row a filter."""
    built = phase("build", name, folder)
    answers = phase("search", name, folder) if "refused" not in built else {"refused": built["refused"]}
    if "refused" in answers:
        print(f"{name:>12} {n:>12} not run: {answers['refused']}", flush=True)
        return []
    rows = []
    for each, numbers in answers.pop("filters").items():
        row = {"contestant": name, "n": n, "filter": each} | numbers | built | answers
        rows.append(row)
        print(" ".join(f"{_text(row.get(column)):>12}" for column in COLUMNS), flush=True)
    return rows


def phase(what: str, name: str, folder: Path) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.search",
        "--phase",
        what,
        "--contestants",
        name,
        "--folder",
        str(folder),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 9:  # prepared; now what is measured
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"refused": f"its process ended with {done.returncode}"}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def build(name: str, folder: Path) -> dict[str, Any]:
    before = _bytes(folder)
    start = time.perf_counter()
    try:
        CONTESTANTS[name]().build(folder)
    except UnsupportedError as error:
        return {"refused": str(error)}
    seconds = time.perf_counter() - start
    return {"build_s": seconds, "peak_mb": _peak_mb(), "file_mb": (_bytes(folder) - before) / 1e6}


def search(name: str, folder: Path) -> dict[str, Any]:
    queries = np.load(folder / "queries.npy")
    contestant = CONTESTANTS[name]()
    imported = time.perf_counter()
    contestant.open(folder)
    contestant.search(queries[0], None)
    if name == "catalogmatch":  # Django and FAISS are imported now: the start of the next process, imports aside
        from matching.index import inprocess

        inprocess._catalogues.clear()
        imported = time.perf_counter()
        contestant.search(queries[0], None)
    started = time.perf_counter() - imported
    for path in contestant.files(folder):
        _read(path)
    filters: dict[str, dict[str, float | None]] = {}
    for each, label in FILTERS.items():
        try:
            filters[each] = _measure(contestant, queries, label, np.load(folder / f"truth-{each}.npy"))
        except UnsupportedError:
            filters[each] = dict.fromkeys(("p50_ms", "p99_ms", "queries_per_s", "recall_at_10"))
    private = _private_mb()
    return {"start_s": started, "private_mb": private, "filters": filters}


def _measure(contestant: Any, queries: Any, label: int | None, truth: Any) -> dict[str, float | None]:
    for query in queries[:20]:  # caches as they are in a process that serves
        contestant.search(query, label)
    times, hit = [], 0
    for query, rows in zip(queries, truth, strict=True):
        start = time.perf_counter()
        found = contestant.search(query, label)
        times.append(time.perf_counter() - start)
        hit += len(np.intersect1d(found, rows))
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as clients:
        list(clients.map(lambda query: contestant.search(query, label), queries))
    rate = len(queries) / (time.perf_counter() - start)
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return {"p50_ms": p50, "p99_ms": p99, "queries_per_s": rate, "recall_at_10": hit / truth.size}


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _peak_mb() -> float:
    """Of this program alone: getrusage would also count what the parent had before the exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def _private_mb() -> float:
    """What this process alone has written; pages of files that it maps are shared with whoever maps them."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.split("Private_Dirty:")[1].split()[0]) / 1e3


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "sqlite3" not in path.name)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
