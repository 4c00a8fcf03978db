"""Learned heads: one linear map over the vectors of several models, learned from the catalogue.

A head takes the search vectors of its parts, such as an encoder's embedding and the legacy features. It weights and
joins them, subtracts a mean, projects, and scales to unit length. So its vectors are stored, indexed and compared like
any embedding. ``matching/learning`` learns heads.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gpu.models import ModelVersion
from gpu.search_vectors import search_vector
from gpu.vectors import CLIP, HEAD, Features, FloatVector, Kind


@dataclass(frozen=True, slots=True)
class Part:
    """One of the models that a head joins. ``weight``: length of its vectors before they are joined."""

    kind: Kind
    model_name: str
    dim: int
    weight: float


@dataclass(frozen=True, eq=False, slots=True)
class Head:
    """A learned head. ``mean`` (D,), ``projection`` (D, d), where D is the sum of the parts' dimensions.

    ``score_floor``: the dot product of a score of 0.
    """

    version: str
    parts: tuple[Part, ...]
    mean: FloatVector
    projection: FloatVector
    score_floor: float

    @property
    def dim(self) -> int:
        """Return the length of the head's vectors."""
        return int(self.projection.shape[1])

    @property
    def encoders(self) -> list[str]:
        """Return the names of the encoders whose embeddings the head needs."""
        return [part.model_name for part in self.parts if part.kind == CLIP]

    def apply(self, joined: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the unit vectors (n, d) of n joined vectors (n, D). A vector at the mean becomes zero."""
        projected = (joined - self.mean) @ self.projection
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        return np.asarray(np.divide(projected, lengths, out=np.zeros_like(projected), where=lengths > 0), np.float32)

    def features(self, of_image: Iterable[Features]) -> Features | None:
        """Return the head's vector of an image from the features of its parts, or None if one is missing."""
        joined = join(self.parts, {(item.kind, item.model_name): item for item in of_image})
        if joined is None:
            return None
        vector = self.apply(joined[None])[0]
        return Features.from_embedding(vector, self.version, HEAD) if vector.any() else None

    def to_row(self, report: Mapping[str, object]) -> ModelVersion:
        """Return an unsaved row that stores the head."""
        buffer = io.BytesIO()
        np.savez(buffer, mean=self.mean, projection=self.projection)
        return ModelVersion(
            name=self.version, parts=[asdict(part) for part in self.parts], matrices=buffer.getvalue(), dim=self.dim,
            score_floor=self.score_floor, report=dict(report),
        )  # fmt: skip


def join(parts: Sequence[Part], features: Mapping[tuple[str, str], Features]) -> FloatVector | None:
    """Return the weighted search vectors of the parts as one (D,), or None if a part is missing or does not fit."""
    vectors = []
    for part in parts:
        found = features.get((part.kind, part.model_name))
        vector = search_vector(found) if found is not None else None
        if vector is None or len(vector) != part.dim:
            return None
        vectors.append(np.float32(part.weight) * vector)
    return np.concatenate(vectors)


def load(name: str) -> Head | None:
    """Return a stored head, or None if there is none of this name. Costs one short query."""
    found = ModelVersion.objects.filter(name=name).values_list("pk", flat=True).first()
    return _load(found, name) if found is not None else None


def load_all() -> list[Head]:
    """Return all stored heads, oldest first. Costs one short query."""
    return [_load(pk, name) for pk, name in ModelVersion.objects.order_by("pk").values_list("pk", "name")]


@lru_cache(maxsize=8)
def _load(pk: int, name: str) -> Head:
    """Read a head once per process. A name holds a digest of the matrices, so that it never means another head."""
    row = ModelVersion.objects.get(pk=pk)
    with np.load(io.BytesIO(bytes(row.matrices)), allow_pickle=False) as arrays:
        mean, projection = arrays["mean"], arrays["projection"]
    return Head(name, tuple(Part(**part) for part in row.parts), mean, projection, row.score_floor)
