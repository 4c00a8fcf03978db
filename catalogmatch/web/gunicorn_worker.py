"""Gunicorn's threaded worker, with a time limit for slow clients.

A connection occupies a thread while its request is read, and gunicorn waits for each byte without limit. This worker
disconnects a client that sends its headers or body too slowly.
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

# A thread waits this long for a connection in total, plus a second for every MIN_BYTES_PER_SECOND bytes received.
GRACE_SECONDS = 10.0
MIN_BYTES_PER_SECOND = 4096
LINGER_SECONDS = 2.0


class RateLimitedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Read from a client that sends fast enough. Raises NoMoreData if it is too slow or disconnects."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._waited = 0.0
        self._received = 0

    def chunk(self, size_hint: int | None = None) -> bytes:
        seconds_left = GRACE_SECONDS + self._received / MIN_BYTES_PER_SECOND - self._waited
        if seconds_left <= 0:
            raise NoMoreData
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds_left if before is None else min(seconds_left, before))
        started = time.monotonic()
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError as error:
            raise NoMoreData from error
        finally:
            self._waited += time.monotonic() - started
            self.sock.settimeout(before)
        if not data:
            # Otherwise gunicorn and Django would take the received part for the whole body.
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
        keep_alive = super().handle(conn)
        if not keep_alive:
            _lingering_close(conn.sock)
        return keep_alive

    def finish_request(self, conn: TConn, future: Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None and not future.result():
            # Gunicorn would linger once more, in the loop that accepts all connections.
            self.nr_conns -= 1
            conn.close()
        else:
            super().finish_request(conn, future)


def _lingering_close(sock: socket.socket) -> None:
    """Let a client that is still sending read the response. Closing at once would lose it."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(2**18):
                return
