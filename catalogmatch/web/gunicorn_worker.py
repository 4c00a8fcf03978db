"""Gunicorn's threaded worker, for clients that are slower than any honest one.

A connection holds a thread while its request is read. Gunicorn waits for each byte without end; here a client that
keeps its thread waiting for longer than its bytes are worth is cut off, be it in the headers or in the body.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from gunicorn.http import get_parser
from gunicorn.http.errors import NoMoreData
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

# A connection may keep a thread waiting this long in all, and a second more for each so many bytes that came.
GRACE_SECONDS = 10.0
MIN_BYTES_PER_SECOND = 4096
LINGER_SECONDS = 2.0


class RateLimitedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Reads from a client for as long as it keeps its pace. Raises NoMoreData then, and where it ends in between."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._waited = 0.0
        self._received = 0

    def chunk(self, size_hint: int | None = None) -> bytes:
        left = GRACE_SECONDS + self._received / MIN_BYTES_PER_SECOND - self._waited
        if left <= 0:
            raise NoMoreData
        before = self.sock.gettimeout()
        self.sock.settimeout(left if before is None else min(left, before))
        started = time.monotonic()
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError as error:
            raise NoMoreData from error
        finally:
            self._waited += time.monotonic() - started
            self.sock.settimeout(before)
        if not data:
            # Gunicorn would take what came for the whole body, and Django for the whole form.
            raise NoMoreData
        self._received += len(data)
        return data


class SlowClientWorker(ThreadWorker):  # type: ignore[misc]
    def enqueue_req(self, conn: TConn) -> None:
        if conn.parser is None:
            conn.parser = get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = RateLimitedUnreader(conn.sock)
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        keep = super().handle(conn)
        if not keep:
            _lingering_close(conn.sock)
        return keep

    def finish_request(self, conn: TConn, future: Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None and not future.result():
            # Gunicorn would linger once more, and here, in the loop that accepts for everybody.
            self.nr_conns -= 1
            conn.close()
        else:
            super().finish_request(conn, future)


def _lingering_close(sock: socket.socket) -> None:
    """Give a client that is still sending the time to read its answer: closed at once, the answer would be lost."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(2**18):
                return
