"""Child processes that decode images, each for one thread at a time, and pools of them.

``multiprocessing`` does not fit: a child imports the caller's script, a daemonic Celery worker may start none, and
children survive a killed parent. These children end when their stdin does.
"""

from __future__ import annotations

import atexit
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, cast

from gpu.imaging.errors import ImageProcessingError, too_much_memory
from gpu.pipes import READY, read_exactly, write_all

START_SECONDS = 30
_ROOT = Path(__file__).resolve().parents[1]


class ChildDiedError(Exception):
    """The child ended before it sent its response."""


class ChildProcess:
    """A module of this program that runs as a process and serves requests on pipes.

    Raises RuntimeError if the process does not start.
    """

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str]) -> None:
        # A session of its own: Ctrl-C ends the parent, which ends its children after their last response.
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=_ROOT, env=env, start_new_session=True,
        )  # fmt: skip
        self._stdin = cast(IO[bytes], self._process.stdin)
        self._stdout = cast(IO[bytes], self._process.stdout)
        self.has_timed_out = False
        try:
            with self.deadline(START_SECONDS):
                is_ready = self.read(len(READY)) == READY
        except ChildDiedError:
            is_ready = False
        if not is_ready:
            self.close()
            raise RuntimeError(f"The process {module} did not start (exit {self.exit_status}). See the log.")

    @property
    def is_usable(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit code, the negative signal number, or None while the child runs."""
        return self._process.returncode

    def read(self, size: int) -> memoryview:
        try:
            return read_exactly(self._stdout, size)
        except EOFError as error:
            raise ChildDiedError from error

    def write(self, data: Any) -> None:
        try:
            write_all(self._stdin, data)
        except BrokenPipeError as error:
            raise ChildDiedError from error

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Kill the child if the block takes longer. The block then raises ChildDiedError."""
        timer = threading.Timer(seconds, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _time_out(self) -> None:
        self.has_timed_out = True
        self._process.kill()

    def image_error(self) -> ImageProcessingError:
        """Return the error of the image that ended this child."""
        if self.exit_status == -signal.SIGKILL:  # by the kernel, short of memory
            return too_much_memory()
        return ImageProcessingError("image_corrupt", "The image is damaged: its decoder crashed.")

    def close(self) -> None:
        """End the child."""
        self._process.kill()  # changes nothing about the status of one that ended by itself
        self._process.wait()
        self._stdin.close()
        self._stdout.close()


Child = TypeVar("Child", bound=ChildProcess)


class ChildPool(Generic[Child]):
    """Up to ``size()`` children, each started when it is needed and after its death."""

    def __init__(self, start: Callable[[], Child], size: Callable[[], int]) -> None:
        self._start, self._size = start, size
        self._lock = threading.Lock()
        self._slots: queue.LifoQueue[Child | None] | None = None
        # Two processes cannot share a pipe, so a fork starts its own children.
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.close)

    @contextmanager
    def checkout(self) -> Iterator[Child]:
        """Wait for a free child and lend it to this thread.

        An exception in the block ends the child.
        """
        slots = self._open()
        child = slots.get()
        try:
            if child is not None and not child.is_usable:
                child.close()
                child = None
            if child is None:
                child = self._start()
            yield child
        except BaseException:
            # Otherwise the next request could get the response to this one.
            if child is not None:
                child.close()
            raise
        finally:
            if child is not None and slots is not self._slots:  # the pool was closed since
                child.close()
                child = None
            slots.put(child)

    def close(self) -> None:
        """End idle children now and busy ones after their request.

        The next request starts new ones.
        """
        with self._lock:
            slots, self._slots = self._slots, None
        if slots is None:
            return
        idle = []
        with suppress(queue.Empty):
            while True:
                idle.append(slots.get_nowait())
        for child in idle:
            if child is not None:
                child.close()
            slots.put(None)  # a thread may still wait for one

    def _open(self) -> queue.LifoQueue[Child | None]:
        with self._lock:
            if self._slots is None:
                # Last in, first out: under light load one child does everything.
                self._slots = queue.LifoQueue()
                for _ in range(self._size()):
                    self._slots.put(None)
            return self._slots

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._slots = None
