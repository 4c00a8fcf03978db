"""A process that tries one backend, or exports a model, for ``measuring``.

A backend may crash on this processor, hang, or take too much memory. In a process of its own that harms nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings

from gpu.backends.loading import load_encoder
from gpu.child_process import ChildDiedError, ChildProcess
from gpu.encoders import onnx_export, weights
from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import Embeddings, Encoder
from gpu.pipes import READY, read_exactly, receive, send, write_all

MODULE = "gpu.backends.candidate"

# A large model on a slow disk, or 120 images in a precision that this processor only emulates.
MAX_SECONDS = 240
GPU_BATCH_SIZE = 32


class CandidateError(Exception):
    """The backend cannot be used here. The message says why in one line."""


class Candidate(ChildProcess):
    """The process, seen from the one that measures. All methods raise CandidateError."""

    def __init__(self, source: str) -> None:
        config = settings.CLIP_CONFIG
        env = os.environ | {
            "CLIP_CACHE_DIR": str(config["cache_dir"]),
            "CLIP_FORCE_CPU": "1" if config["force_cpu"] else "0",
            "CLIP_BACKEND": "auto",
            "DJANGO_SECRET_KEY": settings.SECRET_KEY,
        }
        env.setdefault("DJANGO_SETTINGS_MODULE", "catalogmatch.settings")
        try:
            super().__init__(MODULE, source, env=env)
        except RuntimeError as error:
            raise CandidateError(str(error)) from error

    def load(self, backend: str, images: Sequence[Pixels]) -> int:
        """Load the backend with the images that it will encode. Return the length of its vectors."""
        return int(self._call("load", backend, list(images)))

    def encode(self) -> Embeddings:
        """Return the vectors of all images."""
        return np.asarray(self._call("encode"), np.float32)

    def rate(self, seconds: float) -> float:
        """Encode for about this long, and return images per second."""
        return float(self._call("rate", seconds))

    def export(self, precision: str, images: Sequence[Pixels]) -> None:
        """Write the model for ONNX Runtime, in this precision."""
        self._call("export", precision, list(images))

    def _call(self, *request: Any) -> Any:
        try:
            with self.deadline(MAX_SECONDS):
                send(self.write, request)
                result, problem = receive(self.read)
        except ChildDiedError as error:
            raise CandidateError(self._how_it_ended()) from error
        if problem:
            raise CandidateError(problem)
        return result

    def _how_it_ended(self) -> str:
        if self.has_timed_out:
            return f"It took more than {MAX_SECONDS} seconds."
        self.close()  # which waits for its exit status
        status = self.exit_status
        if status is None or status >= 0:
            return f"Its process ended (exit {status})."
        return f"Its process crashed (signal {-status}{', probably short of memory' if status == -9 else ''})."


class _Server:
    def __init__(self, source: str) -> None:
        self._weights = weights.find_weights(source)
        self._encoder: Encoder | None = None
        self._images: list[Pixels] = []

    def load(self, backend: str, images: list[Pixels]) -> int:
        self._encoder, self._images = load_encoder(backend, self._weights), images
        return int(self._run(images[:2]).shape[1])

    def encode(self) -> Embeddings:
        return self._run(self._images)

    def rate(self, seconds: float) -> float:
        """Keep as many batches in flight as the pipeline does."""
        encoder, size = self._loaded()
        batches = [self._images[start : start + size] for start in range(0, len(self._images), size)]
        pending: deque[Any] = deque()
        done = number = 0
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            pending.append(encoder.start(batches[number % len(batches)]))
            number += 1
            if len(pending) > encoder.max_in_flight:
                done += len(pending.popleft()())
        done += sum(len(finish()) for finish in pending)
        return done / (time.perf_counter() - started)

    def export(self, precision: str, images: list[Pixels]) -> None:
        onnx_export.export_precision(self._weights, "int8" if precision == "int8" else "float32", images)

    def _run(self, images: list[Pixels]) -> Embeddings:
        encoder, size = self._loaded()
        pending = [encoder.start(images[start : start + size]) for start in range(0, len(images), size)]
        return np.concatenate([np.asarray(finish(), np.float32) for finish in pending])

    def _loaded(self) -> tuple[Encoder, int]:
        if self._encoder is None:
            raise RuntimeError("no backend was loaded")
        return self._encoder, self._encoder.cpu_batch_size if self._encoder.device == "cpu" else GPU_BATCH_SIZE


def _end_first_without_memory() -> None:
    """Let the kernel end this process, and not a worker, if memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main() -> None:
    """Serve requests until stdin ends."""
    stdin = sys.stdin.buffer
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not disturb the responses
    _end_first_without_memory()
    with suppress(EOFError, BrokenPipeError):
        stdout.write(READY)
        stdout.flush()
        server = None
        while True:
            name, *arguments = receive(lambda size: read_exactly(stdin, size))
            try:
                server = server or _Server(sys.argv[1])
                response = (getattr(server, name)(*arguments), "")
            except Exception as error:  # noqa: BLE001 # a backend can fail in any way, and the other process must know
                response = (None, " ".join(str(error).split())[:300] or type(error).__name__)
            send(lambda data: write_all(stdout, data), response)
            stdout.flush()


if __name__ == "__main__":
    main()
