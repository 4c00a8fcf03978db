"""Measure the backends of a model on this machine, and keep the fastest that gives the same results.

Each backend runs in a process of its own. It takes turns with a reference in full precision, so that other load on
the machine slows both.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from core import files
from core.disk import NoRoomError, require_free
from gpu.backends import choice, samples
from gpu.backends.candidate import Candidate, CandidateError
from gpu.backends.choice import Choice, Result
from gpu.backends.loading import is_ready
from gpu.device import likely_device
from gpu.encoders import onnx
from gpu.encoders.agreement import measure_agreement
from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import Embeddings
from gpu.encoders.weights import Weights, find_weights

logger = logging.getLogger(__name__)

# What a backend must reach against full precision on the same images.
MIN_TOP10, MIN_MEAN_COSINE = 0.99, 0.999

ROUNDS, SECONDS_A_ROUND = 3, 1.0
MAX_TOTAL_SECONDS = 900  # then no further backend is tried
_EXPORT_FACTOR = 4  # both precisions and the working files of an export, as a multiple of the weights

_NOT_FASTER = "It is not faster than the reference, so it was not compared."


class MeasuringError(Exception):
    """Nothing could be measured. The message says why in one line."""


class BusyError(MeasuringError):
    """Another process of this machine measures."""


Progress = Callable[[str], None]


def measure(source: str, folder: Path | None = None, progress: Progress | None = None) -> Choice:
    """Measure all backends of a model and keep the choice. ``folder`` has images, by default the catalogue's.

    Raises MeasuringError and WeightsError.
    """
    model_weights = find_weights(source)
    try:
        files.make_folder(choice.lock_file().parent)
        with files.locked(choice.lock_file()) as is_mine:
            if not is_mine:
                raise BusyError("Another process measures the backends of this machine. Wait for it.")
            measured = _measure(source, model_weights, folder, progress or logger.info)
            choice.save(model_weights, measured)
    except OSError as error:
        where = choice.lock_file().parent
        raise MeasuringError(f"The choice cannot be kept in {where}: {error.strerror or error}.") from error
    return measured


def _measure(source: str, model_weights: Weights, folder: Path | None, progress: Progress) -> Choice:
    started = time.monotonic()
    reference_name, backends = candidates(model_weights)
    images, rendered = samples.sample(model_weights.preprocess, folder)
    progress(f"measuring {model_weights.model_id} on {len(images)} images, {rendered} of them drawn")
    problems = _export(source, model_weights, images, backends, progress)
    results = []
    try:
        with closing(Candidate(source)) as reference:
            reference.load(reference_name, images)
            expected = _usable(reference.encode())
            rates: list[float] = []
            for backend in backends:
                if backend in problems:
                    result = Result(backend, problem=problems[backend])
                elif time.monotonic() - started > MAX_TOTAL_SECONDS:
                    result = Result(backend, problem="There was no time left to try it.")
                else:
                    result = _try(source, backend, images, reference, expected, rates)
                results.append(result)
                progress(describe(result))
            if reference_name in choice.BACKENDS:
                rate = statistics.median(rates or [reference.rate(SECONDS_A_ROUND)])
                results.insert(0, Result(reference_name, round(rate, 1), 1.0, 1.0, 1.0, 1.0))
    except CandidateError as error:
        raise MeasuringError(f"{model_weights.model_id} cannot be measured with {reference_name}: {error}") from error
    agreeing = [result for result in results if not result.problem]
    if not agreeing:
        raise MeasuringError(f"No backend of {model_weights.model_id} agrees with {reference_name}.")
    fastest = max(agreeing, key=lambda result: result.ratio or 0)
    return Choice(
        model=model_weights.model_id,
        backend=fastest.backend,
        reference=reference_name,
        images=len(images),
        rendered=rendered,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        machine=choice.machine(),
        results=tuple(results),
    )


def candidates(model_weights: Weights) -> tuple[str, list[str]]:
    """Return the reference in full precision, and the backends to compare with it."""
    if model_weights.onnx is not None:
        return "onnx", ["onnx-int8"]
    if likely_device()[0] != "cpu":
        return "torch-float32", ["torch", "torch-bfloat16", "torch-float16"]
    exported = ["onnx", "onnx-int8"] if model_weights.format == "sentence-transformers" else []
    return "torch", ["torch-bfloat16", "torch-float16", *exported]


def describe(result: Result) -> str:
    """Return one line about a backend."""
    text = f"{result.backend}: "
    if result.ratio is not None:
        text += f"{result.images_per_second} images/s, {result.ratio} × the reference; "
    if result.top10 is not None:
        text += f"{result.top10:.1%} of the ten nearest in common, mean cosine {result.mean_cosine:.5f}; "
    return text + (result.problem or "agrees")


def _export(
    source: str, model_weights: Weights, images: Sequence[Pixels], backends: Sequence[str], progress: Progress
) -> dict[str, str]:
    """Write the files that backends lack. Return the reasons of those that cannot be written."""
    problems = {}
    for backend in backends:
        if is_ready(backend, model_weights) or not backend.startswith("onnx"):
            continue
        try:
            require_free(onnx.export_folder(model_weights), round(_EXPORT_FACTOR * model_weights.size_mb * 2**20))
            with closing(Candidate(source)) as process:
                process.export("int8" if backend == "onnx-int8" else "float32", images)
        except (NoRoomError, CandidateError) as error:
            problems[backend] = f"It could not be exported. {error}"
        progress(f"{backend}: {problems.get(backend, 'exported')}")
    return problems


def _try(
    source: str,
    backend: str,
    images: Sequence[Pixels],
    reference: Candidate,
    expected: Embeddings,
    rates: list[float],
) -> Result:
    """Try one backend in turns with the reference, whose rates are added to ``rates``."""
    result = Result(backend)
    try:
        with closing(Candidate(source)) as process:
            process.load(backend, images)
            turns = [_turn(process, reference)]
            result = _with_speed(result, turns)
            if _is_slower(turns[0]):
                return replace(result, problem=_NOT_FASTER)
            measured = measure_agreement(expected, _usable(process.encode()))
            result = replace(
                result,
                min_cosine=round(measured.min_cosine, 6),
                mean_cosine=round(measured.mean_cosine, 6),
                top10=round(measured.top10, 4),
            )
            if measured.top10 < MIN_TOP10 or measured.mean_cosine < MIN_MEAN_COSINE:
                return replace(result, problem="It differs too much from full precision.")
            turns += [_turn(process, reference) for _ in range(ROUNDS - 1)]
            rates += [turn[1] for turn in turns]
            return _with_speed(result, turns)
    except CandidateError as error:
        return replace(result, problem=str(error))


def _turn(process: Candidate, reference: Candidate) -> tuple[float, float]:
    """Return the images per second of both."""
    return process.rate(SECONDS_A_ROUND), reference.rate(SECONDS_A_ROUND)


def _is_slower(turn: tuple[float, float]) -> bool:
    """Return whether to give up: some precisions are emulated on some processors, and would take minutes."""
    return turn[0] <= turn[1]


def _with_speed(result: Result, turns: Sequence[tuple[float, float]]) -> Result:
    ratio = statistics.median(rate / reference for rate, reference in turns)
    rate = statistics.median(rate for rate, _ in turns)
    return replace(result, images_per_second=round(rate, 1), ratio=round(ratio, 2))


def _usable(vectors: Embeddings) -> Embeddings:
    """Return the vectors. Raises CandidateError if they are not finite and of unit length."""
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2):  # also false for NaN
        raise CandidateError("It gives no usable vectors. They are zero or not finite.")
    return vectors
