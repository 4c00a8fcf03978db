"""Delete the vectors of versions that nothing needs any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count

from core.database.batches import iter_pk_batches
from gpu import heads
from gpu.encoders import selection
from gpu.models import EmbeddingWorker, ModelSwitch, ModelVersion
from gpu.vectors import CLIP, HEAD, stored_bytes
from matching.learning import versions
from products import model_versions
from products.models import Feature

_BATCH = 5000  # rows deleted in one transaction, so that uploads are saved in between


@dataclass(frozen=True, slots=True)
class Prunable:
    """A version that nothing needs, the images that have its vectors, and the bytes of those."""

    name: str
    kind: str
    images: int
    bytes: int


def prunable() -> list[Prunable]:
    """Return what can be deleted, largest first.

    Never the version in use, the one that a roll back needs, heads in the shadow, the models that these are made of,
    the encoders that images are embedded with, or one that a worker uses.
    """
    heads_kept = _needed_heads()
    encoders = {versions.current(), model_versions.previous() or ""}
    encoders |= {name for used in EmbeddingWorker.objects.models() for name in selection.names_in(used)}
    encoders |= {encoder.name for encoder in selection.wanted()}
    encoders |= {name for head in heads.load_all() if head.version in heads_kept for name in head.encoders}
    rows = Feature.objects.filter(kind__in=[CLIP, HEAD]).values_list("kind", "model_name", "dim")
    found = {
        (kind, name): (n, n * stored_bytes(kind, dim)) for kind, name, dim, n in rows.annotate(n=Count("pk")).order_by()
    }
    for name in ModelVersion.objects.values_list("name", flat=True):
        found.setdefault((HEAD, name), (0, 0))
    unneeded = [
        Prunable(name, kind, *size)
        for (kind, name), size in found.items()
        if name not in (heads_kept if kind == HEAD else encoders)
    ]
    return sorted(unneeded, key=lambda one: (-one.bytes, one.name))


def prune(one: Prunable, check: Callable[[int], object] = lambda _: None) -> int:
    """Delete a version and its vectors. Return the number of deleted vectors.

    Deletes nothing if it is needed by now. Calls ``check(vectors deleted)`` after each batch; it may raise to stop.
    """
    if one.name not in {other.name for other in prunable()}:
        return 0
    # The head first, so that no worker computes further vectors of it.
    ModelVersion.objects.filter(name=one.name).delete()
    if one.kind == CLIP:
        model_versions.forget_encoder(one.name)
    deleted = 0
    rows = Feature.objects.filter(kind=one.kind, model_name=one.name)
    for feature_ids in iter_pk_batches(rows, _BATCH):
        Feature.objects.filter(pk__in=feature_ids)._raw_delete(DEFAULT_DB_ALIAS)
        deleted += len(feature_ids)
        check(len(feature_ids))
    return deleted


def _needed_heads() -> set[str]:
    """Return the heads in use, for a roll back, and in the shadow."""
    in_use = model_versions.in_use()
    switched = set(ModelSwitch.objects.values_list("version", flat=True))
    shadow = set(ModelVersion.objects.values_list("name", flat=True)) - switched
    return shadow | {in_use.version if in_use is not None else "", model_versions.previous() or ""}
