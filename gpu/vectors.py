"""Features of one image and their three BLOBs. No other module knows the storage format."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["clip", "legacy", "head"]

CLIP: Kind = "clip"
LEGACY: Kind = "legacy"
# What a learned head makes of the other two (gpu/heads.py). Stored like an embedding.
HEAD: Kind = "head"

# The version of the legacy extractor, stored as the model name. A change of the algorithm needs a new name, so that
# old and new histograms are never compared with each other.
LEGACY_MODEL = "legacy-1"

COLOR_BINS = 256
SHAPE_DIM = 7
TEXTURE_BINS = 256

FloatVector = npt.NDArray[np.float32]
ByteVector = npt.NDArray[np.uint8]
Buffer = bytes | memoryview


def stored_bytes(kind: str, dim: int) -> int:
    """Return what the BLOBs of one image take. ``dim``: the size of its embedding."""
    return COLOR_BINS + 4 * SHAPE_DIM + TEXTURE_BINS if kind == LEGACY else 4 * dim


@dataclass(frozen=True, eq=False, slots=True)
class Features:
    """The features of one image from one model.

    ``clip`` and ``head``: ``color`` is the embedding, (dim,) float32 of unit length; shape and texture are empty.
    ``legacy``: ``color`` (256,) uint8, ``shape`` (7,) float32, ``texture`` (256,) uint8.
    """

    kind: Kind
    model_name: str
    color: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    shape: FloatVector
    texture: ByteVector

    @property
    def dim(self) -> int:
        """Return the size of the embedding, or the number of colour bins."""
        return int(self.color.shape[0])

    def to_blobs(self) -> tuple[bytes, bytes, bytes]:
        """Return the BLOBs for colour, shape and texture.

        They have 4·dim, 0 and 0 bytes for an embedding, and 256, 28 and 256 for legacy.
        """
        color_type = np.dtype(np.uint8) if self.kind == LEGACY else np.dtype("<f4")
        return (
            np.ascontiguousarray(self.color, dtype=color_type).tobytes(),
            np.ascontiguousarray(self.shape, dtype="<f4").tobytes(),
            np.ascontiguousarray(self.texture, dtype=np.uint8).tobytes(),
        )

    @classmethod
    def from_blobs(cls, kind: Kind, model_name: str, color: bytes, shape: bytes, texture: bytes) -> Features:
        """Read the three BLOBs. Raises ValueError if their lengths do not fit ``kind``."""
        if kind != LEGACY:
            if not color or len(color) % 4 or shape or texture:
                raise ValueError(f"not an embedding: BLOBs of {len(color)}, {len(shape)}, {len(texture)} bytes")
        elif (len(color), len(shape), len(texture)) != (COLOR_BINS, 4 * SHAPE_DIM, TEXTURE_BINS):
            raise ValueError(f"not a legacy feature: BLOBs of {len(color)}, {len(shape)}, {len(texture)} bytes")
        return cls(
            kind=kind,
            model_name=model_name,
            color=np.frombuffer(color, dtype=np.uint8 if kind == LEGACY else "<f4"),
            shape=np.frombuffer(shape, dtype="<f4"),
            texture=np.frombuffer(texture, dtype=np.uint8),
        )

    @classmethod
    def from_embedding(cls, embedding: npt.ArrayLike, model_name: str, kind: Kind = CLIP) -> Features:
        """Normalise and wrap an embedding (dim,).

        Raises ValueError for zero or non-finite vectors.
        """
        vector = np.asarray(
            embedding, dtype=np.float64
        )  # squares of large or small float32 values do not fit into float32
        norm = float(np.linalg.norm(vector))
        if vector.ndim != 1 or not np.isfinite(norm) or norm == 0.0:
            raise ValueError("an embedding must be one finite vector that is not zero")
        empty_shape, empty_texture = np.empty(0, np.float32), np.empty(0, np.uint8)
        return cls(kind, model_name, (vector / norm).astype(np.float32), empty_shape, empty_texture)


def checksum_blobs(kind: str, model_name: str, color: Buffer, shape: Buffer = b"", texture: Buffer = b"") -> int:
    """Return the CRC-32 of stored features, which tells whether they are still what was stored.

    It takes 2 µs for 512 numbers, three times less than SHA-256. Raises TypeError for what is no BLOB.
    """
    return zlib.crc32(texture, zlib.crc32(shape, zlib.crc32(color, _checksum_name(kind, model_name))))


@lru_cache(maxsize=64)
def _checksum_name(kind: str, model_name: str) -> int:
    return zlib.crc32(f"{kind}\0{model_name}\0".encode())


def detect_feature_type(color_features: np.ndarray[Any, Any]) -> Kind:
    """Return ``clip`` for 512 values and ``legacy`` for 256.

    Raises ValueError for any other length. The program itself uses the stored kind, since other CLIP models have other
    lengths.
    """
    length = len(color_features)
    if length == 512:
        return CLIP
    if length == COLOR_BINS:
        return LEGACY
    raise ValueError(f"Unknown feature dimension: {length}")
