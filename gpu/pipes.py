"""Read and write exact numbers of bytes on the pipes between a process and its children."""

from __future__ import annotations

import pickle  # nosec B403 # see its use
import struct
from collections.abc import Callable
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


def send(write: Callable[[Any], None], value: Any) -> None:
    """Write a value: its pickle, then the memory of its arrays without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    parts = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
    parts += [buffer.raw() for buffer in buffers]
    write(struct.pack(f"<{len(parts) + 1}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        write(part)


def receive(read: Callable[[int], memoryview]) -> Any:
    """Read a value.

    The other end is this program too, so that its pickles can be trusted.
    """
    (count,) = struct.unpack("<Q", read(8))
    sizes = struct.unpack(f"<{count}Q", read(8 * count))
    head, *buffers = [read(size) for size in sizes]
    return pickle.loads(head, buffers=buffers)  # noqa: S301  # nosec B301 # from our own child
