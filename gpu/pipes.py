"""Read and write exact numbers of bytes on the pipes between a process and its children."""

from __future__ import annotations

from typing import IO, Any

import numpy as np

READY = b"ready\n"  # what a child writes before it reads its first request


def read_exactly(stream: IO[bytes], size: int) -> memoryview:
    """Return the next ``size`` bytes of the stream. Raises EOFError if it ends before."""
    data = np.empty(size, np.uint8).data  # unlike a bytearray it is not zeroed first
    rest = data
    while rest:
        count = stream.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


def write_all(stream: IO[bytes], data: Any) -> None:
    """Write the whole of ``data``, bytes or any buffer. Raises BrokenPipeError."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[stream.write(rest) :]
