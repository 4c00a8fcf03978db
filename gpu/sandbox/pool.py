"""The outside of the decoder's box: a few processes that decode untrusted bytes, each for one thread at a time."""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from django.conf import settings

from gpu.imaging.errors import MAX_BYTES, ImageProcessingError, too_many_bytes, too_much_memory
from gpu.sandbox.server import CODES, LENGTH, READY, REQUEST

logger = logging.getLogger(__name__)

# By the clock a picture may take so many times settings.DECODER_SECONDS, which count processor time.
MAX_WAITING_PER_DECODER = 3
START_SECONDS = 30
# A child is replaced after so many pictures, so that what a decoder leaks stays small.
IMAGES_PER_PROCESS = 500
# The same for every child, whatever the parent's holds: no secrets, one heap and no idle threads.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "8388608", "OPENBLAS_NUM_THREADS": "1"}
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture as JPEGs, upright, RGB, without metadata; the upright original's width and height in pixels."""

    width: int
    height: int
    jpeg: bytes
    thumbnail: bytes


class _DiedError(Exception):
    """The child ended, or said what it never says."""


def decode_in_sandbox(data: bytes, side: int, thumbnail_side: int) -> DecodedImage:
    """Decode a picture in a box and make its derivative and thumbnail, at most ``side`` pixels long.

    Waits for a free box. Raises ImageProcessingError for a bad picture, which may have been bad enough to end
    its box: image_corrupt for a crash or a hang, image_too_large for running out of memory.
    """
    if len(data) > MAX_BYTES:
        raise too_many_bytes(len(data))
    with _pool_of_this_process().checkout() as child:
        return child.derive(data, side, thumbnail_side)


class _Decoder:
    """One box: a process that is started here and answers one request at a time."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C ends the parent, which ends its children once they are done.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpu.sandbox.server", str(settings.DECODER_SECONDS)],
            bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=_ROOT, env=_ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
        self._stdin = cast(IO[bytes], self._process.stdin)
        self._stdout = cast(IO[bytes], self._process.stdout)
        self._timed_out = False
        self._left = IMAGES_PER_PROCESS
        try:
            with self._deadline(START_SECONDS):
                ready = self._read(len(READY))
        except _DiedError:
            ready = b""
        if ready != READY:
            self.close()
            raise RuntimeError(f"The decoder's process did not start (exit {self._process.returncode}); see the log.")

    @property
    def is_usable(self) -> bool:
        return self._left > 0 and self._process.poll() is None

    def derive(self, data: bytes, side: int, thumbnail_side: int) -> DecodedImage:
        self._left -= 1
        try:
            with self._deadline(MAX_WAITING_PER_DECODER * settings.DECODER_SECONDS):
                self._write(REQUEST.pack(len(data), side, thumbnail_side))
                self._write(data)
                return self._answer()
        except _DiedError as error:
            self.close()
            logger.warning("A picture of %d bytes ended its decoder (exit %d)", len(data), self._process.returncode)
            raise self._refusal() from error

    def close(self) -> None:
        """End the child."""
        self._left = 0
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def _answer(self) -> DecodedImage:
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        # Whatever happened inside the box, what comes out is taken as bytes, numbers and known codes only.
        try:
            answer: dict[str, Any] = json.loads(self._read(min(length, 2**16)))
            if answer["last"]:
                self._left = 0
            if "code" in answer:
                code, message = str(answer["code"]), str(answer["message"])
                if code not in CODES:
                    raise ValueError(f"unknown code {code!r}")
            else:
                width, height, jpeg, thumbnail = (
                    int(answer[name]) for name in ("width", "height", "jpeg", "thumbnail")
                )
                if not 0 < jpeg + thumbnail <= 2 * MAX_BYTES:
                    raise ValueError("files of an impossible size")
                return DecodedImage(width, height, self._read(jpeg), self._read(thumbnail))
        except (ValueError, KeyError, TypeError) as error:
            raise _DiedError from error
        raise ImageProcessingError(code, message)

    def _refusal(self) -> ImageProcessingError:
        status = self._process.returncode
        if self._timed_out or status == -signal.SIGXCPU:
            return ImageProcessingError(
                "image_corrupt", f"The picture was not decoded within {settings.DECODER_SECONDS} seconds."
            )
        if status == -signal.SIGKILL:  # the kernel, short of memory
            return too_much_memory()
        return ImageProcessingError("image_corrupt", "The picture is damaged: its decoder crashed.")

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        """Kill the child when the block takes longer: then its pipes end, and so does the block."""
        timer = threading.Timer(seconds, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _time_out(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._stdin.write(rest) :]
        except BrokenPipeError as error:
            raise _DiedError from error

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._stdout.read(min(size, 2**20))
            if not part:
                raise _DiedError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class _Pool:
    """``size`` places for children; a child is started when its place is first used, and again after its death."""

    def __init__(self, size: int) -> None:
        # Last in, first out: where little is uploaded, one child does it all.
        self._places: queue.LifoQueue[_Decoder | None] = queue.LifoQueue()
        for _ in range(size):
            self._places.put(None)

    @contextmanager
    def checkout(self) -> Iterator[_Decoder]:
        child = self._places.get()
        try:
            if child is None or not child.is_usable:
                if child is not None:
                    child.close()
                    child = None
                child = _Decoder()
            yield child
        finally:
            self._places.put(child)

    def close(self) -> None:
        with suppress(queue.Empty):
            while True:
                child = self._places.get_nowait()
                if child is not None:
                    child.close()


_lock = threading.Lock()
_pool: _Pool | None = None


def _pool_of_this_process() -> _Pool:
    global _pool
    with _lock:
        if _pool is None:
            _pool = _Pool(settings.DECODERS)
        return _pool


def _forget_after_fork() -> None:
    """After a fork: two processes cannot share a pipe, so the new one starts its own children."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


def close() -> None:
    """End this process's boxes; the next picture starts new ones."""
    global _pool
    with _lock:
        if _pool is not None:
            _pool.close()
        _pool = None


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(close)
