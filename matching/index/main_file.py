"""The base file of one kind and model on disk: a FAISS index, its ids and columns, and a stamp that names them.

    INDEX_DIR/<kind>-<hash of the model's name>/stamp.json      what is current; replaced atomically, last
                                               /<random>.faiss  inverted lists of 1-bit codes, and 8-bit codes by row
                                               /<random>.rows   the columns, one after another

Readers map the files and share their memory. A replaced file is unlinked, and lives on for who still maps it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
import uuid
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from django.conf import settings

from matching.index.changes import Revision
from matching.index.rows import Rows

FORMAT = 2
_STAMP = "stamp.json"
_COLUMNS = (("feature", "<i8"), ("image", "<i8"), ("product", "<i8"), ("category", "<i4"), ("historical", "?"))
_MIB = 1 << 20

Mapped = npt.NDArray[np.uint8]


class IndexFileError(Exception):
    """There is no usable base file; the text says why, for people. ``code`` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the files are of. ``checks``: file name → (bytes, checksum of samples)."""

    kind: str
    model: str
    dim: int  # length of the stored colour vectors
    count: int
    revision: Revision
    built_at: float  # seconds since 1970
    lists: int
    probes: int  # lists that a search without filters looks into
    probes_of_tenth: int  # the same where a filter leaves a tenth of the rows
    categories: list[str]
    refused: list[int]  # ids of features that are no usable vectors
    index_name: str
    rows_name: str
    checks: dict[str, list[int]]


@cache
def _name(kind: str, model: str) -> str:
    return f"{kind}-{hashlib.sha256(model.encode()).hexdigest()[:16]}"


def folder_of(kind: str, model: str) -> Path:
    """Where the base file of one kind and model lies; it need not be there."""
    return Path(settings.INDEX_DIR) / _name(kind, model)


def fingerprint(kind: str, model: str) -> tuple[int, int] | None:
    """Changes whenever the stamp is replaced; None without one. Costs one stat, before every search."""
    try:
        stat = os.stat(f"{settings.INDEX_DIR}/{_name(kind, model)}/{_STAMP}")  # noqa: PTH116  # five times a Path's speed
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def read_stamp(kind: str, model: str) -> Stamp:
    """Raises BaseFileError: ``base_missing``, ``base_unreadable``, ``base_foreign`` or ``base_damaged``."""
    path = folder_of(kind, model) / _STAMP
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise IndexFileError("base_missing", f"There is no base file of {kind} {model} yet.") from error
    except OSError as error:
        raise IndexFileError("base_unreadable", f"The base file cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise IndexFileError("base_damaged", f"{path} is not text: {error}.") from error
    try:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise IndexFileError("base_foreign", f"{path} was written by another version of CatalogMatch.")
        stamp = Stamp(**content | {"revision": Revision(**content["revision"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFileError("base_damaged", f"{path} is not a stamp: {error!r}.") from error
    if (stamp.kind, stamp.model) != (kind, model):
        raise IndexFileError("base_foreign", f"{path} is of {stamp.kind} {stamp.model}, not of {kind} {model}.")
    return stamp


def open_files(stamp: Stamp) -> tuple[Any, Rows, Mapped]:
    """The FAISS index, the columns, and the mapping that the index reads and that has to live as long as it.

    Raises BaseFileError when they are not what the stamp says.
    """
    import faiss

    here = folder_of(stamp.kind, stamp.model)
    try:
        for name, check in stamp.checks.items():
            if list(_check(here / name)) != check:
                raise IndexFileError("base_damaged", f"{here / name} is not what was written there.")
        # Mapped by us, not as FAISS's on-disk lists, whose read-ahead threads cost more than a whole search.
        mapped = np.memmap(here / stamp.index_name, np.uint8, "r")
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(mapped), mapped.nbytes)
        index = faiss.read_index(reader)
        rows = _read_rows(here / stamp.rows_name, stamp.count)
    except (OSError, RuntimeError, ValueError) as error:
        raise IndexFileError("base_unreadable", f"The base file cannot be opened: {error}") from error
    if index.ntotal != stamp.count:
        raise IndexFileError("base_damaged", f"The base file has {index.ntotal} vectors instead of {stamp.count}.")
    return index, rows, mapped


def read_ahead(mapped: Mapped) -> None:
    """Have the whole file in memory soon. Without, each of the first searches waits for 200 places of the disk."""
    threading.Thread(target=lambda: mapped[:: mmap.PAGESIZE].max(), name="index-read-ahead", daemon=True).start()


def write_files(index: Any, rows: Rows, stamp_of: Callable[[str, str, dict[str, list[int]]], Stamp]) -> Stamp:
    """Write the files, then the stamp that makes them current; what was current before stays so on any failure.

    ``stamp_of`` takes the two names and the checks. Raises BaseFileError ``base_not_written`` (a full disk, say).
    """
    import faiss

    name = uuid.uuid4().hex
    index_name, rows_name = f"{name}.faiss", f"{name}.rows"
    stamp = stamp_of(index_name, rows_name, {})
    here = folder_of(stamp.kind, stamp.model)
    paths = [here / index_name, here / rows_name, here / f"{name}.json"]
    try:
        here.mkdir(parents=True, exist_ok=True)
        faiss.write_index(index, str(paths[0]))
        with paths[1].open("wb") as file:
            for column, dtype in _COLUMNS:
                file.write(np.ascontiguousarray(getattr(rows, column), dtype).tobytes())
        stamp = stamp_of(index_name, rows_name, {path.name: list(_check(path)) for path in paths[:2]})
        paths[2].write_text(json.dumps({"format": FORMAT} | asdict(stamp)), "utf-8")
        for path in paths:
            _sync(path)
        open_files(stamp)  # FAISS does not tell when the end of a file found no room
        paths[2].replace(here / _STAMP)
    except (OSError, RuntimeError, IndexFileError) as error:
        for path in paths:
            path.unlink(missing_ok=True)
        raise IndexFileError("base_not_written", f"The base file cannot be written to {here}: {error}") from error
    for path in here.iterdir():
        if path.name not in {_STAMP, index_name, rows_name}:
            path.unlink(missing_ok=True)
    return stamp


def remove_files(kind: str, model: str) -> None:
    """Delete a base file that nothing needs any more."""
    here = folder_of(kind, model)
    (here / _STAMP).unlink(missing_ok=True)
    for path in here.glob("*"):
        path.unlink(missing_ok=True)


def megabytes(stamp: Stamp) -> float:
    """The size of the base file's two files together, in MB (10**6 bytes)."""
    return sum(size for size, _ in stamp.checks.values()) / 1e6


def _check(path: Path) -> tuple[int, int]:
    """(bytes, checksum of the first MiB and of 64 KiB in every further 8): all of it would take a second to read."""
    size, checksum = path.stat().st_size, 0
    with path.open("rb") as file:
        checksum = zlib.crc32(file.read(_MIB))
        for start in range(_MIB, size, 8 * _MIB):
            file.seek(start)
            checksum = zlib.crc32(file.read(_MIB // 16), checksum)
    return size, checksum


def _read_rows(path: Path, count: int) -> Rows:
    raw = np.memmap(path, np.uint8, "r")
    columns, start = {}, 0
    for column, dtype in _COLUMNS:
        end = start + count * np.dtype(dtype).itemsize
        columns[column] = raw[start:end].view(dtype)
        start = end
    if start != len(raw):
        raise ValueError(f"{path} has {len(raw)} bytes instead of {start}")
    return Rows(alive=np.ones(count, np.bool_), **columns)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
