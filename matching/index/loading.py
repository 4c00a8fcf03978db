"""Load stored features as unit vectors with their ids. Invalid vectors are listed apart."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection

from gpu.search_vectors import legacy_search_vectors
from gpu.vectors import COLOR_BINS, LEGACY, SHAPE_DIM, TEXTURE_BINS, checksum_blobs
from matching.index.confirmed import confirmed_among
from matching.index.types import Ids, Vectors, norms
from products.models import Feature

logger = logging.getLogger(__name__)

CHUNK_ROWS = 8192
IDS_PER_QUERY = 500  # SQLite allows 32,766 parameters, older builds 999

_COLUMNS = ("id", "image_id", "product_id", "product__is_historical", "product__category", "checksum", "color_features")
_FILTER_COLUMNS = "f.id, f.image_id, f.product_id, p.is_historical, p.category"
_LEGACY_COLUMNS = ("shape_features", "texture_features")


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one kind and model: ids (n,), filter columns (n,) and unit vectors (n, d).

    ``historical`` is also true for the images of new products that count as catalogue products, see ``confirmed``.
    """

    feature: Ids
    image: Ids
    product: Ids
    historical: npt.NDArray[np.bool_]
    category: list[str]
    vectors: Vectors
    invalid_ids: list[int]  # features that are not in these rows
    dim: int  # length of the stored colour vectors


def stream(kind: str, model: str, dim: int | None = None, chunk: int = CHUNK_ROWS) -> Iterator[Block]:
    """Yield all features of one kind and model by rising id, ``chunk`` rows at a time.

    ``dim`` is the length of the stored colour vectors; None takes the most common length in the first chunk.
    """
    last = 0
    while rows := list(_rows(kind, model).filter(id__gt=last)[:chunk]):
        last = rows[-1][0]
        dim = dim or Counter(_dim(kind, row) for row in rows).most_common(1)[0][0]
        yield _block(kind, model, rows, dim)


def fetch(kind: str, model: str, dim: int, features: Ids) -> Iterator[Block]:
    """Yield the features with these ids that exist, by rising id."""
    for start in range(0, len(features), IDS_PER_QUERY):
        ids = features[start : start + IDS_PER_QUERY].tolist()
        rows = _selected(kind, model, ids, _FILTER_COLUMNS, "JOIN products p ON p.id = f.product_id")
        if rows:
            yield _block(kind, model, rows, dim)


def fetch_for_scoring(kind: str, model: str, dim: int, features: Ids) -> tuple[Ids, Ids, Vectors]:
    """Return image ids, product ids and vectors of those of these features that exist.

    Takes one id or more.
    """
    parts = []
    for start in range(0, len(features), IDS_PER_QUERY):
        ids = features[start : start + IDS_PER_QUERY].tolist()
        selected = _selected(kind, model, ids, "f.id, f.image_id, f.product_id", "")
        rows, vectors, invalid_ids = _valid_rows(kind, model, dim, selected, 4)
        log_invalid(kind, model, invalid_ids)
        parts.append((np.array([row[1:3] for row in rows], np.int64).reshape(-1, 2), vectors))
    pairs = np.concatenate([pair for pair, _ in parts])
    return pairs[:, 0], pairs[:, 1], np.concatenate([vectors for _, vectors in parts])


def log_invalid(kind: str, model: str, ids: Sequence[int]) -> None:
    """Log that a search leaves out these features."""
    if ids:
        logger.error(
            "The search leaves out %d damaged features of %s %s, for example %d. Run `manage.py verify --fix`.",
            len(ids), kind, model, ids[0],
        )  # fmt: skip


def _rows(kind: str, model: str) -> Any:
    columns = _COLUMNS + _LEGACY_COLUMNS if kind == LEGACY else _COLUMNS
    return Feature.objects.filter(kind=kind, model_name=model).order_by("id").values_list(*columns)


def _selected(kind: str, model: str, ids: list[int], columns: str, join: str) -> list[tuple[Any, ...]]:
    """Return ``columns``, the checksum and the BLOBs of the features with these ids, by rising id.

    Uses SQL because the ORM would cost every search a millisecond.
    """
    blobs = "f.color_features, f.shape_features, f.texture_features" if kind == LEGACY else "f.color_features"
    placeholders = ", ".join(["%s"] * len(ids))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, f.checksum, {blobs} "  # noqa: S608  # nosec B608 # our own names, no values
            f"FROM features f {join} WHERE f.id IN ({placeholders}) "
            "AND f.kind = %s AND f.model_name = %s ORDER BY f.id",
            [*ids, kind, model],
        )
        return list(cursor.fetchall())


def _dim(kind: str, row: tuple[Any, ...]) -> int:
    return COLOR_BINS if kind == LEGACY else len(row[6]) // 4


def _block(kind: str, model: str, rows: Sequence[tuple[Any, ...]], dim: int) -> Block:
    valid, vectors, invalid_ids = _valid_rows(kind, model, dim, rows, 6)
    confirmed = set(confirmed_among(kind, sorted({row[2] for row in valid if not row[3]})).tolist())
    return Block(
        feature=np.array([row[0] for row in valid], np.int64),
        image=np.array([row[1] for row in valid], np.int64),
        product=np.array([row[2] for row in valid], np.int64),
        historical=np.array([row[3] or row[2] in confirmed for row in valid], np.bool_),
        category=[row[4] for row in valid],
        vectors=vectors,
        invalid_ids=invalid_ids,
        dim=dim,
    )


def _valid_rows(
    kind: str, model: str, dim: int, rows: Sequence[tuple[Any, ...]], first_blob: int
) -> tuple[list[tuple[Any, ...]], Vectors, list[int]]:
    """Return the rows with valid, undamaged BLOBs, their unit vectors, and the ids of the other rows.

    The BLOBs of a row start at column ``first_blob``, and its checksum is in the column before. Every vector of a
    search comes from here, so none is used that is not what was stored.
    """
    expected = (COLOR_BINS, 4 * SHAPE_DIM, TEXTURE_BINS) if kind == LEGACY else (4 * dim,)
    intact = [row for row in rows if _is_intact(kind, model, row[first_blob - 1 :])]
    valid = [row for row in intact if tuple(map(len, row[first_blob:])) == expected]
    vectors = _vectors(kind, dim, [row[first_blob:] for row in valid])
    lengths = norms(vectors)
    is_valid = np.isfinite(lengths) & (lengths > 0)
    if not is_valid.all():
        valid = list(compress(valid, is_valid))
        vectors, lengths = vectors[is_valid], lengths[is_valid]
    valid_ids = {row[0] for row in valid}
    invalid_ids = [row[0] for row in rows if row[0] not in valid_ids]
    # Stored vectors have unit length already. The division keeps the score a cosine for vectors written by hand.
    return valid, np.asarray(vectors / lengths[:, None], np.float32), invalid_ids


def _is_intact(kind: str, model: str, stored: tuple[Any, ...]) -> bool:
    """Return whether the BLOBs fit the checksum before them. Those without one are believed."""
    try:
        return stored[0] is None or bool(stored[0] == checksum_blobs(kind, model, *stored[1:]))
    except TypeError:  # a damaged row can have a number instead of a BLOB
        return False


def _vectors(kind: str, dim: int, blobs: Sequence[tuple[bytes, ...]]) -> Vectors:
    color = b"".join(blob[0] for blob in blobs)
    if kind != LEGACY:
        return np.frombuffer(color, "<f4").reshape(-1, dim)
    return legacy_search_vectors(
        np.frombuffer(color, np.uint8).reshape(-1, COLOR_BINS),
        np.frombuffer(b"".join(blob[1] for blob in blobs), "<f4").reshape(-1, SHAPE_DIM),
        np.frombuffer(b"".join(blob[2] for blob in blobs), np.uint8).reshape(-1, TEXTURE_BINS),
    )
