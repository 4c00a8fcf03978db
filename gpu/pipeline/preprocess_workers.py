"""Subprocesses that preprocess images, because one interpreter (GIL) cannot keep a GPU busy.

Each image holds the GIL for about 0.2 ms. All threads of a process together preprocess fewer than 5,000 images a
second, on any number of cores. Only for files that this program wrote; gpu.sandbox is for untrusted ones.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from core.cpu import cpu_cores
from gpu.child_process import ChildDiedError, ChildPool, ChildProcess
from gpu.encoders.preprocess import Preprocess
from gpu.images import register_decoders
from gpu.imaging.errors import ImageProcessingError
from gpu.pipeline.preprocess_image import EmbedRequest, Preprocessed, preprocess_image
from gpu.pipes import READY, read_exactly, receive, send, write_all
from gpu.timings import Stage, add, drain

logger = logging.getLogger(__name__)

PreprocessResult = Preprocessed | ImageProcessingError


def preprocess_in_subprocess(requests: Sequence[EmbedRequest], preprocess: Preprocess | None) -> list[PreprocessResult]:
    """Return the results of ``preprocess_image``, computed in a subprocess.

    An image that ends its process is image_corrupt, or image_too_large if the system was short of memory.
    """
    try:
        with _workers.checkout() as worker:
            results, seconds = worker.preprocess(requests, preprocess)
    except ChildDiedError as error:
        status = worker.exit_status
        logger.warning("An image ended the process that preprocessed it (exit %s)", status)
        if status is None or status >= 0:  # no signal: it is not the image's fault
            raise RuntimeError(f"A preprocessing process failed (exit {status}). Its error is in the log.") from error
    else:
        add(seconds)
        return results
    if len(requests) == 1:
        return [worker.image_error()]
    # One by one, to find which image it was.
    return [result for request in requests for result in preprocess_in_subprocess([request], preprocess)]


def close() -> None:
    """End the idle processes. The next images start new ones."""
    _workers.close()


class _Worker(ChildProcess):
    def __init__(self) -> None:
        # One thread each, since there is a process for each core.
        super().__init__("gpu.pipeline.preprocess_workers", env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})

    def preprocess(
        self, requests: Sequence[EmbedRequest], preprocess: Preprocess | None
    ) -> tuple[list[PreprocessResult], dict[Stage, float]]:
        """Return the results and the seconds for each stage. Raises ChildDiedError."""
        # The process has another working folder, where a relative path leads elsewhere.
        send(self.write, ([replace(request, path=request.path.absolute()) for request in requests], preprocess))
        response: tuple[list[PreprocessResult], dict[Stage, float]] = receive(self.read)
        return response


_workers = ChildPool(_Worker, cpu_cores)


def main() -> None:
    """Serve requests until stdin ends."""
    register_decoders()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    with suppress(EOFError, BrokenPipeError):
        stdout.write(READY)
        stdout.flush()
        while True:
            requests, preprocess = receive(lambda size: read_exactly(stdin, size))
            results = [preprocess_image(request, preprocess) for request in requests]
            send(lambda data: write_all(stdout, data), (results, drain()))
            stdout.flush()


if __name__ == "__main__":
    main()
