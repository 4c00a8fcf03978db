"""Processes that prepare pictures for a GPU, which takes more of them than one interpreter can hand on.

A picture keeps the interpreter's lock for about 0.2 ms, so that all threads of a process together prepare fewer
than 5,000 a second, however many cores there are. Run as ``python -m gpu.preparers`` this is such a process: it
takes lists of jobs on its standard input until that ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from gpu.encoders.preprocess import Preprocess
from gpu.images import register_decoders
from gpu.imaging.errors import ImageProcessingError, too_much_memory
from gpu.pipeline.preprocess_image import EmbedRequest, Preprocessed, preprocess_image
from gpu.timings import Stage, add, drain

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_READY = "ready"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # there is a process for each core

PreprocessResult = Preprocessed | ImageProcessingError


def preprocess_in_subprocess(jobs: Sequence[EmbedRequest], preprocess: Preprocess | None) -> list[PreprocessResult]:
    """What ``gpu.prepare.prepare`` says of each job, computed in a process that this thread has to itself meanwhile.

    A picture that ends its process is image_corrupt, or image_too_large where the system was short of memory.
    """
    process = _take()
    try:
        outcomes, spent = process.ask(jobs, preprocess)
    except (EOFError, BrokenPipeError):
        reason = process.why_it_died()
    except BaseException:
        process.close()  # its answer would be taken for that to the next question
        raise
    else:
        _idle.append(process)
        add(spent)
        return outcomes
    if len(jobs) == 1:
        return [reason]
    return [outcome for job in jobs for outcome in preprocess_in_subprocess([job], preprocess)]  # to find which it was


def close() -> None:
    """End the processes that are idle; the next pictures start new ones."""
    with suppress(IndexError):
        while True:
            _idle.pop().close()


def _take() -> _Process:
    with suppress(IndexError):
        while True:
            process = _idle.pop()
            if process.is_alive:
                return process
            process.close()  # ended while nobody used it, which no picture should be blamed for
    return _Process()


class _Process:
    def __init__(self) -> None:
        # A session of its own: Ctrl-C ends the parent, which ends its children once they are done.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpu.pipeline.preprocess_workers"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT, env=os.environ | _ONE_THREAD,
            start_new_session=True,
        )  # fmt: skip
        self._stdin = cast(IO[bytes], self._process.stdin)
        self._stdout = cast(IO[bytes], self._process.stdout)
        try:
            ready = _receive(self._stdout)
        except EOFError:
            ready = None
        if ready != _READY:
            self.close()
            raise RuntimeError(f"A process that prepares pictures did not start (exit {self._process.returncode}).")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(
        self, jobs: Sequence[EmbedRequest], preprocess: Preprocess | None
    ) -> tuple[list[PreprocessResult], dict[Stage, float]]:
        """Outcomes and seconds per stage. Raises EOFError or BrokenPipeError when the process ends before."""
        # The process works in another folder, where a relative path would lead elsewhere.
        _send(self._stdin, ([replace(job, path=job.path.absolute()) for job in jobs], preprocess))
        answer: tuple[list[PreprocessResult], dict[Stage, float]] = _receive(self._stdout)
        return answer

    def why_it_died(self) -> ImageProcessingError:
        """What to say of the picture that ended the process. Raises RuntimeError when no picture did."""
        self.close()
        status = self._process.returncode
        logger.warning("A picture ended the process that prepared it (exit %d)", status)
        if status >= 0:
            raise RuntimeError(f"A process that prepares pictures failed (exit {status}); its error is in the log.")
        if status == -signal.SIGKILL:  # the kernel, short of memory
            return too_much_memory()
        return ImageProcessingError("image_corrupt", "The picture is damaged: its decoder crashed.")

    def close(self) -> None:
        for stream in (self._stdin, self._stdout):
            with suppress(BrokenPipeError):
                stream.close()
        self._process.wait()


def _send(stream: IO[bytes], value: Any) -> None:
    """Write a value: its pickle, and the memory of its arrays as it is."""
    buffers: list[pickle.PickleBuffer] = []
    parts = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
    parts += [buffer.raw() for buffer in buffers]
    stream.write(struct.pack(f"<{len(parts) + 1}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        stream.write(part)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    """Read a value. The other end is this very program, which gets pictures and gives what this process would compute.

    Raises EOFError.
    """
    (count,) = struct.unpack("<Q", _read(stream, 8))
    sizes = struct.unpack(f"<{count}Q", _read(stream, 8 * count))
    head, *buffers = [_read(stream, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)  # noqa: S301


def _read(stream: IO[bytes], size: int) -> memoryview:
    data = np.empty(size, np.uint8)  # unlike bytes it is not filled before it is read into
    if stream.readinto(data) != size:  # type: ignore[attr-defined]
        raise EOFError
    return data.data


# Idle processes, the one last used first. Adding and taking is atomic; a fork has to start its own.
_idle: deque[_Process] = deque()
os.register_at_fork(after_in_child=_idle.clear)
atexit.register(close)


def main() -> None:
    """Serve until the parent is gone."""
    register_decoders()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    with suppress(EOFError, BrokenPipeError):
        _send(stdout, _READY)
        while True:
            jobs, preprocess = _receive(stdin)
            _send(stdout, ([preprocess_image(job, preprocess) for job in jobs], drain()))


if __name__ == "__main__":
    main()
