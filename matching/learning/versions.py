"""Switch between model versions, list them, and search again what older versions answered."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Count
from django.utils import timezone

from gpu.encoders import selection
from gpu.encoders.registry import clip_status
from gpu.models import ModelSwitch, ModelVersion
from gpu.vectors import HEAD, LEGACY, LEGACY_MODEL
from matching import tasks
from matching.service import covers_catalogue
from products import model_versions
from products.models import Feature, Product, ProductImage


@dataclass(frozen=True, slots=True)
class Listed:
    """A model or version. ``state``: in use, in the shadow, or kept. ``coverage``: share of all images that have it."""

    name: str
    kind: str
    source: str
    dim: int | None
    backend: str
    images: int
    coverage: float
    state: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def switch(version: str, user: AbstractBaseUser | None = None) -> None:
    """Let another version answer, and queue all new products to be matched again. Raises VersionError."""
    model_versions.switch(version, user)
    _match_again()


def rollback(user: AbstractBaseUser | None = None) -> str:
    """Let the version before answer again. Return its name. Raises VersionError."""
    version = model_versions.rollback(user)
    _match_again()
    return version


def list_versions() -> list[Listed]:
    """Return every encoder with stored features or configured, the legacy features and every head."""
    head, encoder = selection.answering()
    current = encoder.name
    sources = selection.known() | {wanted.name: wanted for wanted in selection.wanted()}
    statuses = {name: clip_status(one.source) for name, one in sources.items()}
    coming = {wanted.name for wanted in selection.wanted()}  # images are embedded with them
    total = ProductImage.objects.count()
    rows = Feature.objects.values_list("kind", "model_name", "dim").annotate(n=Count("pk")).order_by()
    counts = {(kind, name): (dim, n) for kind, name, dim, n in rows}
    for name in coming:
        counts.setdefault(("clip", name), (statuses[name].embedding_dim, 0))
    counts.setdefault((LEGACY, LEGACY_MODEL), (256, 0))
    switched = set(ModelSwitch.objects.values_list("version", flat=True))
    parts = {row.name: row for row in ModelVersion.objects.defer("matrices")}
    for name, row in parts.items():
        counts.setdefault((HEAD, name), (row.dim, 0))
    if head is not None:
        used = {(part.kind, part.model_name) for part in head.parts}
    else:
        clip_answers = counts["clip", current][1] > 0 and covers_catalogue(current)
        used = {("clip", current) if clip_answers else (LEGACY, LEGACY_MODEL)}
    listed = []
    for (kind, name), (dim, images) in sorted(counts.items(), key=lambda item: (item[0][0] == HEAD, item[0])):
        if kind == HEAD:
            state = (
                "in use"
                if head is not None and head.version == name
                else "kept"
                if name in switched
                else "in the shadow"
            )
            source = " + ".join(part["model_name"] for part in parts[name].parts) if name in parts else "deleted"
        else:
            was_used = name == current or name in switched
            is_shadow = kind == "clip" and name in coming and not (was_used and images)
            state = "in use" if (kind, name) in used else "in the shadow" if is_shadow else "kept"
            source = "built in" if kind == LEGACY else sources[name].source if name in sources else "unknown"
        backend = statuses[name].backend if name in statuses else "numpy" if kind != "clip" else ""
        listed.append(Listed(name, kind, source, dim, backend, images, images / total if total else 1.0, state))
    return listed


def _match_again() -> None:
    """Queue all new products for matching, because their matches are of the version before.

    Verdicts stay. Workers do it in the background. Without a broker `manage.py match_products` does it.
    """
    Product.objects.filter(is_historical=False, features__isnull=False).update(unmatched_since=timezone.now())
    if settings.HAS_BROKER:
        tasks.notify_workers(None)
