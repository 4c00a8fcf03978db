"""Many pictures to features: decode ahead on threads while the device encodes, one result per picture, in order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from django.conf import settings

from gpu import throughput
from gpu.device import cpu_cores, likely_device
from gpu.encoders import registry, weights
from gpu.encoders.preprocess import Preprocess
from gpu.encoders.protocol import Embeddings, Encoder, Pending
from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError
from gpu.legacy import extract_legacy
from gpu.pipeline import batching
from gpu.pipeline.preprocess_image import EmbedRequest, Preprocessed, preprocess_image
from gpu.pipeline.preprocess_workers import PreprocessResult, preprocess_in_subprocess
from gpu.timings import drain, stage
from gpu.vectors import Features

logger = logging.getLogger(__name__)

# For fewer pictures a GPU's worker does not start processes; it asks each for so many at once.
PROCESSES_FROM, PROCESS_SHARE = 64, 8


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What was wanted of one picture; None for what was not."""

    clip: Features | None
    legacy: Features | None


ImageResult = ImageFeatures | ImageProcessingError


@dataclass(frozen=True, slots=True)
class _Group:
    """Consecutive pictures, and the vectors that are being computed of those that have pixels."""

    prepared: list[PreprocessResult]
    vectors: Pending | None


def run_pipeline(jobs: Sequence[EmbedRequest], *, batch_size: int | None = None) -> Generator[ImageResult, None, None]:
    """One result per job, in order, while later pictures are still being decoded; memory does not grow with the jobs.

    A picture that cannot be used is an ImageProcessingError in its place and disturbs no other. Raises
    ClipUnavailableError, before any picture is read, when a job wants CLIP and there is none; the caller may
    run again without. ``batch_size`` overrides CLIP_BATCH_SIZE and what the device's memory allows.
    """
    if not any(job.clip for job in jobs):
        return _results(jobs, None, batching.CPU_BATCH_SIZE)
    encoder = registry.get_encoder()
    size = batch_size or batching.batch_size(
        encoder.device, batching.free_memory_gb(encoder.device), encoder.cpu_batch_size
    )
    return _results(jobs, encoder, size)


def extract_query_features(source: bytes | Path | str) -> ImageFeatures:
    """Features of one picture that somebody waits for: legacy always, CLIP where it can be used and gives a vector.

    Raises ImageProcessingError.
    """
    picture = decode(source)
    legacy = extract_legacy(picture)
    if not registry.is_clip_available():
        return ImageFeatures(None, legacy)
    try:
        encoder = registry.get_encoder()
    except registry.ClipUnavailableError as error:
        logger.warning("CLIP cannot be used, legacy features instead: %s", error)
        return ImageFeatures(None, legacy)
    vectors = batching.AdaptiveBatcher(encoder, 1).start([encoder.preprocess(picture)])()
    found = _with_embedding(vectors[0], weights.model_id(), legacy)
    if isinstance(found, ImageProcessingError):
        logger.warning("%s Legacy features instead.", found.message)
        return ImageFeatures(None, legacy)
    return found


def preferred_batch_size() -> int:
    """How many pictures a worker should claim at once: enough to keep its device busy, few enough to be done soon.

    On a CPU that is a second or two of work; on a GPU several batches, so that decoding ahead has something to do.
    """
    device, _ = likely_device()
    return 32 if device == "cpu" else 8 * max(32, settings.CLIP_CONFIG["batch_size"] or 0)


def _results(jobs: Sequence[EmbedRequest], encoder: Encoder | None, size: int) -> Generator[ImageResult, None, None]:
    batches = batching.AdaptiveBatcher(encoder, size) if encoder is not None else None
    lanes = encoder.max_in_flight if encoder is not None else 1
    model = weights.model_id() if encoder is not None else ""
    rate = throughput.ThroughputMeter(size * lanes)
    under_way: deque[_Group] = deque()
    try:
        preprocess = encoder.preprocess if encoder is not None else None
        in_processes = encoder is not None and encoder.device == "cuda" and len(jobs) >= PROCESSES_FROM
        # Small batches would leave processes without work; each has a share in hand and one waiting.
        ahead = max(size * (lanes + 1), 2 * PROCESS_SHARE * cpu_cores() if in_processes else 0)
        with closing(_prepare_ahead(jobs, preprocess, ahead, in_processes)) as prepared:
            while group := list(islice(prepared, size)):
                pixels = [p.pixels for p in group if isinstance(p, Preprocessed) and p.pixels is not None]
                under_way.append(_Group(group, batches.start(pixels) if batches is not None and pixels else None))
                # One group more than lanes, so that a lane that is done finds the next one waiting.
                if len(under_way) > lanes:
                    yield from _finish(under_way.popleft(), model, rate)
            while under_way:
                yield from _finish(under_way.popleft(), model, rate)
    finally:
        rate.close()
        if encoder is not None:
            encoder.release_memory()
        if settings.CLIP_CONFIG["debug"]:
            spent = ", ".join(f"{name} {seconds:.3f}" for name, seconds in drain().items())
            logger.debug("Seconds per stage, all threads, for %d pictures: %s", len(jobs), spent)


def _prepare_ahead(
    jobs: Sequence[EmbedRequest], preprocess: Preprocess | None, ahead: int, in_processes: bool
) -> Generator[PreprocessResult, None, None]:
    """Decode and prepare on threads or in processes, never more than ``ahead`` pictures before they are asked for."""
    waiting: deque[Future[list[PreprocessResult]]] = deque()
    share = PROCESS_SHARE if in_processes else 1
    work = preprocess_in_subprocess if in_processes else _prepare_here
    todo = iter([jobs[start : start + share] for start in range(0, len(jobs), share)])
    with ThreadPoolExecutor(cpu_cores(), "prepare") as pool:
        try:
            while True:
                waiting.extend(
                    pool.submit(work, some, preprocess) for some in islice(todo, max(1, ahead // share) - len(waiting))
                )
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _prepare_here(jobs: Sequence[EmbedRequest], preprocess: Preprocess | None) -> list[PreprocessResult]:
    return [preprocess_image(job, preprocess) for job in jobs]


def _finish(group: _Group, model: str, rate: throughput.ThroughputMeter) -> Iterator[ImageResult]:
    with stage("encode"):
        vectors = iter(group.vectors() if group.vectors is not None else ())
    rate.add(len(group.prepared))
    for prepared in group.prepared:
        if isinstance(prepared, ImageProcessingError):
            yield prepared
        elif prepared.pixels is None:
            yield ImageFeatures(None, prepared.legacy)
        else:
            yield _with_embedding(next(vectors), model, prepared.legacy)


def _with_embedding(vector: Embeddings, model: str, legacy: Features | None) -> ImageResult:
    try:
        return ImageFeatures(Features.from_embedding(vector, model), legacy)
    except ValueError as error:
        return ImageProcessingError("embedding_failed", f"The model gave no usable vector for this picture: {error}.")
