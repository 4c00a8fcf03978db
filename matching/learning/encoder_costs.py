"""Measure what each encoder costs on this machine, and what it reaches alone on this catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from gpu import device
from gpu.encoders import selection
from gpu.encoders.registry import ClipUnavailableError, get_encoder
from gpu.encoders.selection import Selected
from gpu.pipeline.preprocess_image import EmbedRequest
from gpu.pipeline.run import run_pipeline
from gpu.vectors import LEGACY_MODEL
from matching.learning.held_out import ComparisonError, resolve, search_both
from products.model_versions import VersionError
from products.models import ProductImage

TIMED_IMAGES = 24

Progress = Callable[[int], object]
Report = dict[str, object]


def measure_encoders(progress: Progress = lambda _: None) -> Report:
    """Return the images/s, the memory and the recall of each encoder that can be loaded.

    ``memory_mb`` is what this process grows by while it loads the encoder and embeds. ``recall_1`` and ``recall_5`` are
    those on the catalogue's held-out images, or None if the encoder has not embedded enough of them.
    Calls ``progress(1)`` after each encoder.
    """
    known = selection.known() | {one.name: one for one in selection.wanted()}
    stored = ProductImage.objects.filter(state=ProductImage.State.READY).order_by("pk")[:TIMED_IMAGES]
    paths = [Path(image.file.path) for image in stored]
    rows = []
    for encoder in known.values():
        rows.append({"name": encoder.name, **_cost(encoder, paths), **_recall(encoder.name)})
        progress(1)
    return {"encoders": rows}


def _cost(encoder: Selected, paths: list[Path]) -> Report:
    before = device.process_memory_gb()
    try:
        loaded = get_encoder(encoder.source)
    except ClipUnavailableError as error:
        return {"images_per_second": None, "memory_mb": None, "dimensions": None, "problem": str(error)}
    requests = [EmbedRequest(path, clip=True, legacy=False) for path in paths]
    start = time.perf_counter()
    list(run_pipeline(requests, model=encoder.source))
    seconds = time.perf_counter() - start
    after = device.process_memory_gb()
    return {
        "images_per_second": round(len(paths) / seconds, 1) if paths else None,
        "memory_mb": round(1024 * (after - before)) if before is not None and after is not None else None,
        "dimensions": loaded.dim,
    }


def _recall(name: str) -> Report:
    try:
        sets = search_both(resolve(name), resolve(LEGACY_MODEL))
    except (ComparisonError, VersionError):
        sets = []
    views = next((one for one in sets if one.name == "views"), None)
    return {f"recall_{k}": None if views is None else round(float((views.a.ranks <= k).mean()), 4) for k in (1, 5)}
