"""Features of one picture and their three BLOBs: the only place that knows the storage format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["clip", "legacy"]

CLIP: Kind = "clip"
LEGACY: Kind = "legacy"

# The version of the legacy extractor, stored as the features' model name: a change of the
# algorithm is a new name, so old and new histograms are never compared with each other.
LEGACY_MODEL = "legacy-1"

COLOR_BINS = 256
SHAPE_DIM = 7
TEXTURE_BINS = 256

FloatVector = npt.NDArray[np.float32]
ByteVector = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Features:
    """What one model says of one picture.

    ``clip``: ``color`` is the embedding, (dim,) float32 of unit length; shape and texture are empty.
    ``legacy``: ``color`` (256,) uint8, ``shape`` (7,) float32, ``texture`` (256,) uint8.
    """

    kind: Kind
    model_name: str
    color: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    shape: FloatVector
    texture: ByteVector

    @property
    def dim(self) -> int:
        """Length of ``color``: the embedding's size for CLIP, the number of colour bins for legacy."""
        return int(self.color.shape[0])

    def to_blobs(self) -> tuple[bytes, bytes, bytes]:
        """The three BLOBs (colour, shape, texture): 4·dim, 0, 0 bytes for CLIP; 256, 28, 256 for legacy."""
        color_type = np.dtype("<f4") if self.kind == CLIP else np.dtype(np.uint8)
        return (
            np.ascontiguousarray(self.color, dtype=color_type).tobytes(),
            np.ascontiguousarray(self.shape, dtype="<f4").tobytes(),
            np.ascontiguousarray(self.texture, dtype=np.uint8).tobytes(),
        )

    @classmethod
    def from_blobs(cls, kind: Kind, model_name: str, color: bytes, shape: bytes, texture: bytes) -> Features:
        """Read the three BLOBs back. Raises ValueError when a length is not one that ``kind`` can have."""
        if kind == CLIP:
            if not color or len(color) % 4 or shape or texture:
                raise ValueError(f"not a CLIP feature: BLOBs of {len(color)}, {len(shape)}, {len(texture)} bytes")
        elif (len(color), len(shape), len(texture)) != (COLOR_BINS, 4 * SHAPE_DIM, TEXTURE_BINS):
            raise ValueError(f"not a legacy feature: BLOBs of {len(color)}, {len(shape)}, {len(texture)} bytes")
        return cls(
            kind=kind,
            model_name=model_name,
            color=np.frombuffer(color, dtype="<f4" if kind == CLIP else np.uint8),
            shape=np.frombuffer(shape, dtype="<f4"),
            texture=np.frombuffer(texture, dtype=np.uint8),
        )

    @classmethod
    def from_embedding(cls, embedding: npt.ArrayLike, model_name: str) -> Features:
        """Wrap a CLIP embedding (dim,), normalised here once. Raises ValueError for zero or non-finite vectors."""
        vector = np.asarray(embedding, dtype=np.float64)  # the squares of large and small float32 do not fit float32
        norm = float(np.linalg.norm(vector))
        if vector.ndim != 1 or not np.isfinite(norm) or norm == 0.0:
            raise ValueError("an embedding must be one finite vector that is not zero")
        empty_shape, empty_texture = np.empty(0, np.float32), np.empty(0, np.uint8)
        return cls(CLIP, model_name, (vector / norm).astype(np.float32), empty_shape, empty_texture)


def detect_feature_type(color_features: np.ndarray[Any, Any]) -> Kind:
    """``clip`` for 512 values, ``legacy`` for 256, as the guide has it. Raises ValueError for any other length.

    The program itself trusts the stored kind, since other CLIP models have other lengths.
    """
    length = len(color_features)
    if length == 512:
        return CLIP
    if length == COLOR_BINS:
        return LEGACY
    raise ValueError(f"Unknown feature dimension: {length}")
