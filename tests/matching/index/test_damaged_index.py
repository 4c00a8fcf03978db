"""Index files that are flipped and cut while searches run: results stay right, and no process ends."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from matching import index
from matching.index import main_file, main_segment, maintenance
from matching.index.inprocess import VectorCatalogue
from matching.index.types import Filters, Hit
from tests.helpers.vectors import MODEL, add_products, embeddings, random_vectors

CLIP = "clip"
N, DIM, K = 1200, 64, 10

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL searches without index files"),
]


class IndexFiles:
    """The files of the index, and ways to damage them in place, where a reader may have them open."""

    def __init__(self) -> None:
        self.folder = main_file.folder_of(CLIP, MODEL)
        self._intact = {path: path.read_bytes() for path in self.folder.iterdir()}
        self.stamp = self.folder / "stamp.json"

    def heal(self) -> None:
        for path, data in self._intact.items():
            path.write_bytes(data)

    def damage(self, rng: random.Random) -> None:
        path = rng.choice(sorted(self._intact))
        size = len(self._intact[path])
        if rng.random() < 0.3:
            os.truncate(path, rng.randrange(size))
        else:
            self._flip(path, rng, size)
        os.utime(self.stamp)  # running processes look at the files again

    def _flip(self, path: Path, rng: random.Random, size: int) -> None:
        with path.open("r+b") as file:
            for _ in range(rng.choice([1, 1, 30])):
                place = rng.randrange(size)
                file.seek(place)
                flipped = self._intact[path][place] ^ (1 << rng.randrange(8))
                file.seek(place)
                file.write(bytes([flipped]))


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> np.ndarray:
    """Build an index file of a small catalogue and return queries for it."""
    settings.INDEX_DIR = tmp_path / "index"
    monkeypatch.setattr(maintenance, "MIN_VECTORS_FOR_ANN", 1000)
    monkeypatch.setattr(main_segment, "MAX_EXACT_ROWS", 50)
    monkeypatch.setattr(maintenance, "request_maintenance", lambda: None)
    monkeypatch.setattr("matching.index.inprocess._catalogues", {})
    add_products(embeddings(random_vectors(N, dim=DIM)))
    index.rebuild()
    return random_vectors(20, seed=9, dim=DIM)


def search(query: np.ndarray) -> list[Hit]:
    return VectorCatalogue(CLIP, MODEL).search(query[None], K, Filters())


def right_results(queries: np.ndarray) -> list[list[list[Hit]]]:
    """Return for each query the results of the intact index file and of exact search."""
    from_file = [search(query) for query in queries]
    stamp = main_file.folder_of(CLIP, MODEL) / "stamp.json"
    aside = stamp.rename(stamp.with_name("aside"))
    exact = [search(query) for query in queries]
    aside.rename(stamp)
    return [list(pair) for pair in zip(from_file, exact, strict=True)]


def damage_while_searching(queries: np.ndarray, times: int) -> None:
    right, files = right_results(queries), IndexFiles()
    wrong: list[object] = []
    searched = [0, 0]
    stopping = threading.Event()

    def ask(number: int) -> None:
        """Search as a process that runs for long (0), or as ever new processes (1)."""
        rng = random.Random(number)
        running = VectorCatalogue(CLIP, MODEL)
        try:
            while not stopping.is_set():
                one = rng.randrange(len(queries))
                process = running if number == 0 else VectorCatalogue(CLIP, MODEL)
                hits = process.search(queries[one][None], K, Filters())
                searched[number] += 1
                if hits not in right[one]:
                    wrong.append((one, hits))
        except BaseException as error:
            wrong.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    rng = random.Random(5)
    try:
        for _ in range(times):
            with suppress(FileNotFoundError):  # a search has removed the stamp of damaged files
                files.damage(rng)
            time.sleep(0.03)
            files.heal()
            time.sleep(0.01)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[0]
    assert min(searched) > times / 10


def test_flipped_and_cut_index_files_never_give_a_wrong_result(queries: np.ndarray) -> None:
    damage_while_searching(queries, times=25)


@pytest.mark.faults
def test_two_hundred_flips_and_cuts_never_give_a_wrong_result(queries: np.ndarray) -> None:
    damage_while_searching(queries, times=200)


def test_every_flipped_byte_of_the_stamp_is_noticed(queries: np.ndarray) -> None:
    stamp = main_file.folder_of(CLIP, MODEL) / "stamp.json"
    intact = stamp.read_bytes()
    read = main_file.read_stamp(CLIP, MODEL)
    for place in range(len(intact)):
        stamp.write_bytes(intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :])
        with suppress(index.IndexFileError):
            assert main_file.read_stamp(CLIP, MODEL) == read, f"byte {place} is not checked"


def test_damaged_index_file_is_built_again_by_the_next_maintenance(queries: np.ndarray) -> None:
    [path] = main_file.folder_of(CLIP, MODEL).glob("*.faiss")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    search(queries[0])
    assert len(index.maintain()) == 1
    assert VectorCatalogue(CLIP, MODEL).current_snapshot().main is not None


def test_verify_names_each_damaged_index_file_and_builds_it_again(queries: np.ndarray) -> None:
    paths = [path for path in main_file.folder_of(CLIP, MODEL).iterdir() if path.suffix != ".json"]
    for path in paths:
        os.truncate(path, path.stat().st_size - 1)
    for options in ([], ["--fix"]):
        out = StringIO()
        with pytest.raises(CommandError):  # the images of these products have no files
            call_command("verify", *options, stdout=out)
        assert all(f"{path} is not what was written." in out.getvalue() for path in paths)
    assert VectorCatalogue(CLIP, MODEL).current_snapshot().main is not None
