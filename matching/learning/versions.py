"""Switch between model versions, list them, and search again what older versions answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Count, QuerySet

from gpu.encoders import selection
from gpu.encoders.registry import clip_status
from gpu.models import ModelSwitch, ModelVersion
from gpu.vectors import CLIP, HEAD, LEGACY, LEGACY_MODEL, stored_bytes
from matching.models import Match, ModelJob
from matching.rematch import rematch
from matching.service import covers_catalogue
from products import model_versions
from products.models import Feature, Product, ProductImage

IN_USE, IN_SHADOW, KEPT = "in use", "in the shadow", "kept"


@dataclass(frozen=True, slots=True)
class Listed:
    """A model or version. ``state``: in use, in the shadow, or kept. ``coverage``: share of all images that have it.

    ``switch_to``: the name that ``switch`` takes, or "" if it cannot answer by itself. ``recall_1`` and ``recall_5``:
    what it reaches on this catalogue's held-out images, and ``measured``: "learning", "comparison" or "measurement",
    the newest one.
    ``ms_per_query``: of a search by stored vectors. ``bytes``: of all its vectors. ``images_per_second`` and
    ``memory_mb``: of its encoder alone on this machine, when the encoders were last measured.
    """

    name: str
    kind: str
    source: str
    dim: int | None
    backend: str
    images: int
    coverage: float
    state: str
    switch_to: str
    bytes_per_vector: int | None
    bytes: int
    recall_1: float | None
    recall_5: float | None
    measured: str
    ms_per_query: float | None
    images_per_second: float | None
    memory_mb: int | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SwitchPreview:
    """What a switch would change. ``lacking``: images whose vectors are computed first."""

    current: str
    target: str
    is_rollback: bool
    lacking: int
    uncovered: int
    products_to_match: int
    decisions: int


def switch(version: str, user: AbstractBaseUser | None = None) -> None:
    """Let another version answer, and queue undecided new products to be matched again. Raises VersionError.

    Changes nothing if it answers already.
    """
    wanted, answering = model_versions.resolve(version), model_versions.answering()
    if wanted.name == answering.name:
        return
    model_versions.switch(version, user)
    rematch(undecided_products())


def rollback(user: AbstractBaseUser | None = None) -> str:
    """Let the version before answer again. Return its name. Raises VersionError."""
    version = model_versions.rollback(user)
    rematch(undecided_products())
    return version


def undecided_products() -> QuerySet[Product]:
    """Return the new products without a confirmed match. A decision stays, so the others need no search."""
    decided = Match.objects.filter(review_status=Match.Status.CONFIRMED).values("product")
    return Product.objects.filter(is_historical=False).exclude(pk__in=decided)


def current() -> str:
    """Return the name of the version that answers, as ``switch`` takes it."""
    name = ModelSwitch.objects.order_by("-pk").values_list("version", flat=True).first()
    return name or model_versions.ENCODER_NAME


def preview(version: str) -> SwitchPreview:
    """Return what a switch to this version would change. Raises VersionError for an unknown one."""
    found = model_versions.resolve(version)
    target = version or model_versions.ENCODER_NAME
    before = model_versions.previous()
    return SwitchPreview(
        current=current(),
        target=target,
        is_rollback=before is not None and (before or model_versions.ENCODER_NAME) == target,
        lacking=model_versions.images_lacking(found.head).count() if found.head is not None else 0,
        uncovered=model_versions.uncovered_count(found),
        products_to_match=undecided_products().count(),
        decisions=Match.objects.exclude(review_status=Match.Status.PENDING).count(),
    )


def list_versions() -> list[Listed]:
    """Return every encoder with stored features or configured, the legacy features and every head."""
    head, encoder = selection.answering()
    alone = selection.alone().name
    coming = {wanted.name: wanted for wanted in selection.wanted()}  # images are embedded with them
    sources = selection.known() | coming
    statuses = {name: clip_status(one.source) for name, one in sources.items()}
    total = ProductImage.objects.count()
    rows = Feature.objects.values_list("kind", "model_name", "dim").annotate(n=Count("pk")).order_by()
    counts = {(kind, name): (dim, n) for kind, name, dim, n in rows}
    for name in coming:
        counts.setdefault((CLIP, name), (statuses[name].embedding_dim, 0))
    counts.setdefault((LEGACY, LEGACY_MODEL), (256, 0))
    switched = set(ModelSwitch.objects.values_list("version", flat=True))
    parts = {row.name: row for row in ModelVersion.objects.defer("matrices")}
    for name, row in parts.items():
        counts.setdefault((HEAD, name), (row.dim, 0))
    clip_answers = counts[CLIP, alone][1] > 0 and covers_catalogue(alone)
    without_head = (CLIP, alone) if clip_answers else (LEGACY, LEGACY_MODEL)
    used = {(part.kind, part.model_name) for part in head.parts} if head is not None else {without_head}
    figures = _figures(parts)
    listed = []
    for (kind, name), (dim, images) in sorted(counts.items(), key=lambda item: (item[0][0] == HEAD, item[0])):
        if kind == HEAD:
            is_used = head is not None and head.version == name
            state = IN_USE if is_used else KEPT if name in switched else IN_SHADOW
            source = " + ".join(part["model_name"] for part in parts[name].parts) if name in parts else "deleted"
            switch_to = name if name in parts else ""
        else:
            was_used = name == encoder.name or name in switched
            is_shadow = kind == CLIP and name in coming and not (was_used and images)
            state = IN_USE if (kind, name) in used else IN_SHADOW if is_shadow else KEPT
            source = "built in" if kind == LEGACY else sources[name].source if name in sources else "unknown"
            switch_to = model_versions.ENCODER_NAME if (kind, name) == without_head else ""
            if kind == CLIP and name in sources:
                switch_to = name
        backend = statuses[name].backend if name in statuses else "numpy" if kind != CLIP else ""
        size = stored_bytes(kind, dim) if dim else None
        known = figures.get(name, {})
        listed.append(
            Listed(
                name, kind, source, dim, backend, images, images / total if total else 1.0, state, switch_to, size,
                images * (size or 0), known.get("recall@1"), known.get("recall@5"), known.get("measured", ""),
                known.get("ms_per_query"), known.get("images_per_second"), known.get("memory_mb"),
            )
        )  # fmt: skip
    return listed


def by_name(listed: Iterable[Listed]) -> dict[str, Listed]:
    """Return the versions that can answer, by the names that ``switch`` takes. "encoder" is what answers alone."""
    found = {one.switch_to: one for one in listed if one.switch_to}
    alone = found.get(selection.alone().name)
    return {model_versions.ENCODER_NAME: alone, **found} if alone is not None else found


def _figures(heads: Mapping[str, ModelVersion]) -> dict[str, dict[str, Any]]:
    """Return the newest figures of each version by its name: of its learning, or of a later comparison."""
    figures: dict[str, dict[str, Any]] = {}
    moments: dict[str, Any] = {}

    def take(name: str, when: Any, found: dict[str, Any]) -> None:
        if name not in moments or when >= moments[name]:
            moments[name] = when
            figures[name] = {**figures.get(name, {}), **found}

    for row in heads.values():
        report = row.report
        for name, key in ((report.get("compared_with", ""), "before"), (row.name, "after")):
            if key in report:
                recalls = {k: report[key][k] for k in ("recall@1", "recall@5")}
                take(name, row.created_at, {**recalls, "measured": "learning"})
    compared = ModelJob.objects.filter(kind=ModelJob.Kind.COMPARE, state=ModelJob.State.DONE).order_by("created_at")
    for when, report in compared.values_list("created_at", "report"):
        views = next((one for one in report["sets"] if one["name"] == "views"), None)
        for side in "ab":
            found: dict[str, Any] = {"ms_per_query": report["cost"][side]["ms_per_query"]}
            if views is not None:
                recalls = {k: views[side][k]["value"] for k in ("recall@1", "recall@5")}
                found |= {**recalls, "measured": "comparison"}
            take(report[side], when, found)
    measured = ModelJob.objects.filter(kind=ModelJob.Kind.MEASURE, state=ModelJob.State.DONE).order_by("created_at")
    for when, report in measured.values_list("created_at", "report"):
        for row in report["encoders"]:
            found = {key: row[key] for key in ("images_per_second", "memory_mb")}
            figures[row["name"]] = {**figures.get(row["name"], {}), **found}
            if row["recall_1"] is not None:
                recalls = {"recall@1": row["recall_1"], "recall@5": row["recall_5"]}
                take(row["name"], when, recalls | {"measured": "measurement"})
    return figures
