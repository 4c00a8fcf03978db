"""The index file of one kind and model: write it, check it, map it into memory.

    INDEX_DIR/<kind>-<hash of the model's name>/stamp.json      names the current files; replaced atomically, last
                                               /<random>.faiss  inverted lists of 1-bit codes, and 8-bit codes by row
                                               /<random>.rows   the columns, one after another

Readers copy the files into their memory, compare the copy with its checksum, and use only the copy. A mapped file
would change under a reader when the disk damages it, and end the process when it is cut (ADR 58).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
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

from core import files
from matching.index import changes
from matching.index.changes import Revision
from matching.index.rows import Rows

logger = logging.getLogger(__name__)

FORMAT = 3
_STAMP = "stamp.json"
_COLUMNS = (("feature", "<i8"), ("image", "<i8"), ("product", "<i8"), ("category", "<i4"), ("historical", "?"))
_BLOCK_BYTES = 1 << 20

Buffer = npt.NDArray[np.uint8]


class IndexFileError(Exception):
    """There is no usable index file. ``code`` is stable, the message tells the user why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an index file contains, as stored in stamp.json.

    ``checks`` has the size in bytes and the CRC-32 for each file name.
    """

    kind: str
    model: str
    dim: int  # length of the stored colour vectors
    count: int
    revision: Revision
    built_at: float  # seconds since 1970
    lists: int
    probes: int  # lists that a search without filters reads
    probes_of_tenth: int  # the same if a filter passes a tenth of the rows
    categories: list[str]
    refused: list[int]  # ids of invalid features
    index_name: str
    rows_name: str
    checks: dict[str, list[int]]


@cache
def _folder_name(kind: str, model: str) -> str:
    return f"{kind}-{hashlib.sha256(model.encode()).hexdigest()[:16]}"


def folder_of(kind: str, model: str) -> Path:
    """Return the folder of the index file of one kind and model, which need not exist."""
    return Path(settings.INDEX_DIR) / _folder_name(kind, model)


def fingerprint(kind: str, model: str) -> tuple[int, int] | None:
    """Return a value that changes with every new stamp, or None without a stamp.

    Costs one stat, because it runs before every search.
    """
    try:
        stat = os.stat(f"{settings.INDEX_DIR}/{_folder_name(kind, model)}/{_STAMP}")  # noqa: PTH116  # 5 times as fast
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def read_stamp(kind: str, model: str) -> Stamp:
    """Return the stamp of one kind and model.

    Raises IndexFileError: ``base_missing``, ``base_unreadable``, ``base_foreign`` or ``base_damaged``.
    """
    path = folder_of(kind, model) / _STAMP
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise IndexFileError("base_missing", f"There is no index file of {kind} {model} yet.") from error
    except OSError as error:
        raise IndexFileError("base_unreadable", f"The index file cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise IndexFileError("base_damaged", f"{path} is not text: {error}.") from error
    try:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise IndexFileError("base_foreign", f"{path} was written by another version of CatalogMatch.")
        if content.pop("checksum") != _checksum(content):
            raise IndexFileError("base_damaged", f"{path} is not what was written.")
        stamp = Stamp(**content | {"revision": Revision(**content["revision"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFileError("base_damaged", f"{path} is not a stamp: {error!r}.") from error
    if (stamp.kind, stamp.model) != (kind, model):
        raise IndexFileError("base_foreign", f"{path} is of {stamp.kind} {stamp.model}, not of {kind} {model}.")
    return stamp


def read_current_stamp(kind: str, model: str, max_log_rows: int | None = None) -> Stamp:
    """Return the stamp if the change log leads from its revision to the present.

    ``max_log_rows`` is how far the file may lag behind the log. Raises IndexFileError as ``read_stamp`` does.
    """
    stamp = read_stamp(kind, model)
    is_known = changes.is_known(stamp.revision)
    if not is_known or (max_log_rows and changes.latest_revision().id - stamp.revision.id > max_log_rows):
        raise IndexFileError("base_foreign", "The index file is older than the change log, or of other data.")
    return stamp


def open_files(stamp: Stamp) -> tuple[Any, Rows, Buffer]:
    """Return the FAISS index, the rows, and the memory that must live as long as the index.

    Raises IndexFileError ``base_damaged``, which names each damaged file, or ``base_unreadable``.
    """
    import faiss

    contents, damages = dict[str, Buffer](), list[str]()
    for name, (size, checksum) in stamp.checks.items():
        path = folder_of(stamp.kind, stamp.model) / name
        try:
            contents[name] = _read(path, size)
        except FileNotFoundError:
            damages.append(f"{path} is missing.")
        except (OSError, MemoryError) as error:
            raise IndexFileError("base_unreadable", f"The index file cannot be read: {error!r}.") from error
        else:
            if len(contents[name]) != size or zlib.crc32(contents[name].data) != checksum:
                damages.append(f"{path} is not what was written.")
    if damages:
        raise IndexFileError("base_damaged", " ".join(damages))
    # FAISS trusts what it reads, and damaged lists could end the process. So it reads the checked copy.
    buffer = contents[stamp.index_name]
    try:
        index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), buffer.nbytes))
        rows = _rows(contents[stamp.rows_name], stamp.count)
    except (RuntimeError, ValueError) as error:
        raise IndexFileError("base_unreadable", f"The index file cannot be opened: {error}") from error
    if index.ntotal != stamp.count:
        raise IndexFileError("base_damaged", f"The index file has {index.ntotal} vectors instead of {stamp.count}.")
    return index, rows, buffer


def discard(stamp: Stamp) -> None:
    """Remove a stamp whose files are damaged, so that the next maintenance builds them again.

    Processes that have loaded the files keep their copy.
    """
    try:
        if read_stamp(stamp.kind, stamp.model) == stamp:
            (folder_of(stamp.kind, stamp.model) / _STAMP).unlink()
    except (IndexFileError, OSError) as error:
        # Search is exact either way, and the caller has logged the damage.
        logger.warning("The stamp of the damaged index file was not removed: %s", error)


def write_files(index: Any, rows: Rows, make_stamp: Callable[[str, str, dict[str, list[int]]], Stamp]) -> Stamp:
    """Write the files, then the stamp that makes them current.

    ``make_stamp`` takes the two file names and the checks. On failure the previous files stay current.
    Raises IndexFileError ``base_not_written``, for example if the disk is full.
    """
    import faiss

    name = uuid.uuid4().hex
    index_name, rows_name = f"{name}.faiss", f"{name}.rows"
    stamp = make_stamp(index_name, rows_name, {})
    folder = folder_of(stamp.kind, stamp.model)
    paths = [folder / index_name, folder / rows_name, folder / f"{name}.json"]
    try:
        files.make_folder(folder)
        for path in paths:
            files.open_new(path).close()  # FAISS and numpy keep the mode of an existing file
        faiss.write_index(index, str(paths[0]))
        with paths[1].open("wb") as file:
            for column, dtype in _COLUMNS:
                file.write(np.ascontiguousarray(getattr(rows, column), dtype).tobytes())
        stamp = make_stamp(index_name, rows_name, {path.name: _check(path) for path in paths[:2]})
        content = asdict(stamp)
        paths[2].write_text(json.dumps({"format": FORMAT, "checksum": _checksum(content)} | content), "utf-8")
        for path in paths:
            files.sync_file(path)
        open_files(stamp)  # FAISS raises nothing if the disk fills up at the end of a file
        paths[2].replace(folder / _STAMP)
        files.sync_folder(folder)  # before the files of the last stamp are deleted
    except (OSError, RuntimeError, IndexFileError) as error:
        for path in paths:
            path.unlink(missing_ok=True)
        raise IndexFileError("base_not_written", f"The index file cannot be written to {folder}: {error}") from error
    for path in folder.iterdir():
        if path.name not in {_STAMP, index_name, rows_name}:
            path.unlink(missing_ok=True)
    return stamp


def remove_files(kind: str, model: str) -> None:
    """Delete the index file of one kind and model."""
    folder = folder_of(kind, model)
    (folder / _STAMP).unlink(missing_ok=True)
    for path in folder.glob("*"):
        path.unlink(missing_ok=True)


def megabytes(stamp: Stamp) -> float:
    """Return the size of the index file in MB (10**6 bytes)."""
    return sum(size for size, _ in stamp.checks.values()) / 1e6


def _check(path: Path) -> list[int]:
    """Return the size in bytes and the CRC-32."""
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def _checksum(content: dict[str, Any]) -> int:
    """Return the CRC-32 of the stamp's other fields."""
    return zlib.crc32(json.dumps(content).encode())


def _read(path: Path, size: int) -> Buffer:
    """Return a copy of a file, or of its first ``size`` + 1 bytes. Raises OSError and MemoryError."""
    with path.open("rb", buffering=0) as file:
        buffer = np.empty(min(os.fstat(file.fileno()).st_size, size + 1), np.uint8)
        view, length = buffer.data, 0
        while length < len(buffer) and (count := file.readinto(view[length:])):
            length += count
    return buffer[:length]


def _rows(raw: Buffer, count: int) -> Rows:
    columns, start = {}, 0
    for column, dtype in _COLUMNS:
        end = start + count * np.dtype(dtype).itemsize
        columns[column] = raw[start:end].view(dtype)
        start = end
    if start != len(raw):
        raise ValueError(f"the rows have {len(raw)} bytes instead of {start}")
    return Rows(alive=np.ones(count, np.bool_), **columns)
