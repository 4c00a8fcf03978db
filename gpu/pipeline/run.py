"""Compute the features of many images: decode ahead while the device encodes, and return one result each, in order."""

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
from PIL import Image

from core.cpu import cpu_cores
from gpu import throughput
from gpu.device import likely_device
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

# Fewer images are not worth starting subprocesses. Each subprocess gets eight images at once.
MIN_IMAGES_FOR_SUBPROCESSES, IMAGES_PER_REQUEST = 64, 8


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """The features of one image: a vector of each encoder, and the legacy features or None."""

    embeddings: tuple[Features, ...]
    legacy: Features | None

    @property
    def clip(self) -> Features | None:
        """Return the vector of the first encoder, or None."""
        return self.embeddings[0] if self.embeddings else None


ImageResult = ImageFeatures | ImageProcessingError


@dataclass(frozen=True, slots=True)
class _Group:
    """Consecutive preprocessed images, and the pending vectors of those with pixels."""

    preprocessed: list[PreprocessResult]
    vectors: Pending | None


def run_pipeline(
    requests: Sequence[EmbedRequest], *, batch_size: int | None = None, model: str | None = None
) -> Generator[ImageResult, None, None]:
    """Yield one result for each request, in order, while later images are decoded.

    Memory does not grow with the number of requests. The result of an image that cannot be used is an
    ImageProcessingError. ``batch_size`` overrides CLIP_BATCH_SIZE and the size chosen for the device. ``model`` is the
    name of an encoder (default: the configured one). Raises ClipUnavailableError before it reads any image if a request
    needs CLIP. The caller may then run again without.
    """
    if not any(request.clip for request in requests):
        return _results(requests, None, batching.CPU_BATCH_SIZE, "")
    encoder = registry.get_encoder(model)
    size = batch_size or batching.batch_size(
        encoder.device, batching.free_memory_gb(encoder.device), encoder.cpu_batch_size
    )
    return _results(requests, encoder, size, weights.model_id(model))


def extract_query_features(source: bytes | Path | str, models: Sequence[str] | None = None) -> ImageFeatures:
    """Return the legacy features of one image, and its vector from each available encoder, in order.

    ``models`` are names of encoders (default: the configured one). A vector that is not usable is left out. Decodes
    once and in this thread, because a user waits. Raises ImageProcessingError.
    """
    image = decode(source)
    names = [None] if models is None else models
    embeddings = [embedding for name in names if (embedding := _embed_query(image, name)) is not None]
    return ImageFeatures(tuple(embeddings), extract_legacy(image))


def _embed_query(image: Image.Image, name: str | None) -> Features | None:
    if not registry.is_clip_available(name):
        return None
    try:
        encoder = registry.get_encoder(name)
    except registry.ClipUnavailableError as error:
        logger.warning("CLIP is not available, using legacy features: %s", error)
        return None
    vectors = batching.AdaptiveBatcher(encoder, 1).start([encoder.preprocess(image)])()
    result = _with_embedding(vectors[0], weights.model_id(name), None)
    if isinstance(result, ImageProcessingError):
        logger.warning("%s Using legacy features.", result.message)
        return None
    return result.clip


def preferred_batch_size() -> int:
    """Return how many images a worker should claim at once.

    On a CPU they take a second or two. On a GPU they are several batches, so that some can be decoded ahead.
    """
    device, _ = likely_device()
    return 32 if device == "cpu" else 8 * max(32, settings.CLIP_CONFIG["batch_size"] or 0)


def _results(
    requests: Sequence[EmbedRequest], encoder: Encoder | None, size: int, model: str
) -> Generator[ImageResult, None, None]:
    batcher = batching.AdaptiveBatcher(encoder, size) if encoder is not None else None
    max_in_flight = encoder.max_in_flight if encoder is not None else 1
    rate = throughput.ThroughputMeter(size * max_in_flight)
    in_flight: deque[_Group] = deque()
    try:
        preprocess = encoder.preprocess if encoder is not None else None
        is_cuda = encoder is not None and encoder.device == "cuda"
        use_subprocesses = is_cuda and len(requests) >= MIN_IMAGES_FOR_SUBPROCESSES
        # With small batches, subprocesses would run idle. Give each one request to work on and one to wait.
        ahead = max(size * (max_in_flight + 1), 2 * IMAGES_PER_REQUEST * cpu_cores() if use_subprocesses else 0)
        with closing(_preprocess_ahead(requests, preprocess, ahead, use_subprocesses)) as preprocessed:
            while group := list(islice(preprocessed, size)):
                pixels = [p.pixels for p in group if isinstance(p, Preprocessed) and p.pixels is not None]
                in_flight.append(_Group(group, batcher.start(pixels) if batcher is not None and pixels else None))
                # One group more than can be in flight, so that the device always has a next one.
                if len(in_flight) > max_in_flight:
                    yield from _finish(in_flight.popleft(), model, rate)
            while in_flight:
                yield from _finish(in_flight.popleft(), model, rate)
    finally:
        rate.close()
        if encoder is not None:
            encoder.release_memory()
        if settings.CLIP_CONFIG["debug"]:
            spent = ", ".join(f"{name} {seconds:.3f}" for name, seconds in drain().items())
            logger.debug("Seconds per stage, all threads, for %d images: %s", len(requests), spent)


def _preprocess_ahead(
    requests: Sequence[EmbedRequest], preprocess: Preprocess | None, ahead: int, use_subprocesses: bool
) -> Generator[PreprocessResult, None, None]:
    """Preprocess on threads or in subprocesses, at most ``ahead`` images early."""
    waiting: deque[Future[list[PreprocessResult]]] = deque()
    share = IMAGES_PER_REQUEST if use_subprocesses else 1
    work = preprocess_in_subprocess if use_subprocesses else _preprocess_here
    shares = iter([requests[start : start + share] for start in range(0, len(requests), share)])
    with ThreadPoolExecutor(cpu_cores(), "preprocess") as pool:
        try:
            while True:
                missing = max(1, ahead // share) - len(waiting)
                waiting.extend(pool.submit(work, part, preprocess) for part in islice(shares, missing))
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _preprocess_here(requests: Sequence[EmbedRequest], preprocess: Preprocess | None) -> list[PreprocessResult]:
    return [preprocess_image(request, preprocess) for request in requests]


def _finish(group: _Group, model: str, rate: throughput.ThroughputMeter) -> Iterator[ImageResult]:
    with stage("encode"):
        vectors = iter(group.vectors() if group.vectors is not None else ())
    rate.add(len(group.preprocessed))
    for result in group.preprocessed:
        if isinstance(result, ImageProcessingError):
            yield result
        elif result.pixels is None:
            yield ImageFeatures((), result.legacy)
        else:
            yield _with_embedding(next(vectors), model, result.legacy)


def _with_embedding(vector: Embeddings, model: str, legacy: Features | None) -> ImageResult:
    try:
        return ImageFeatures((Features.from_embedding(vector, model),), legacy)
    except ValueError as error:
        return ImageProcessingError("embedding_failed", f"The model gave no usable vector for this image: {error}.")
