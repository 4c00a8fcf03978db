"""A real HTTP server on the loopback that serves images, and that misbehaves on request."""

from __future__ import annotations

import gzip
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.helpers.sample_images import jpeg


class ImageServer(ThreadingHTTPServer):
    """Serves ``/ok/7.jpg`` with an ETag and ``/plain/7.jpg`` without, each number another image.

    ``sent`` counts the answers by path and status. ``at_once`` is the largest number of requests at one time.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sent: Counter[tuple[str, int]] = Counter()
        self.seen: Counter[str] = Counter()
        self.now, self.at_once = 0, 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def bodies(self) -> int:
        """Return how many times a body was sent."""
        return sum(count for (_path, status), count in self.sent.items() if status == 200)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ImageServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server, path = self.server, urlsplit(self.path).path
        with server.lock:
            server.seen[path] += 1
            server.now += 1
            server.at_once = max(server.at_once, server.now)
        try:
            getattr(self, f"do_{path.split('/')[1]}", self.do_missing)(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.now -= 1

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        with self.server.lock:
            self.server.sent[urlsplit(self.path).path, status] += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def image(self, path: str) -> bytes:
        return jpeg(int("".join(filter(str.isdigit, path)) or 0))

    def do_ok(self, path: str) -> None:
        etag = f'"{path}"'
        if self.headers.get("If-None-Match") == etag:
            self.answer(304, ETag=etag)
        else:
            self.answer(200, self.image(path), ETag=etag, Content_Type="image/jpeg")

    def do_plain(self, path: str) -> None:
        self.answer(200, self.image(path), Content_Type="image/jpeg")

    def do_slow(self, path: str) -> None:
        time.sleep(0.05)
        self.do_ok(path)

    def do_flaky(self, path: str) -> None:
        if self.server.seen[path] < 3:
            self.answer(503, Retry_After="0")
        else:
            self.do_ok(path)

    def do_html(self, _path: str) -> None:
        self.answer(200, b"<html>Not here any more</html>", Content_Type="text/html; charset=utf-8")

    def do_disguised(self, _path: str) -> None:
        self.answer(200, b"<html>Not here any more</html>", Content_Type="image/jpeg")

    def do_stall(self, path: str) -> None:
        self.answer(200, self.image(path)[:100], length=5_000)
        self.server.stopping.wait(10)
        self.close_connection = True

    def do_drip(self, _path: str) -> None:
        """Send a header that never ends, a few bytes at a time."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.server.stopping.wait(0.1):
            self.wfile.write(b"x")

    def do_short(self, path: str) -> None:
        """Promise more than is sent."""
        self.answer(200, self.image(path), length=len(self.image(path)) + 1_000)
        self.close_connection = True

    def do_cut(self, path: str) -> None:
        """Promise less than the image has."""
        image = self.image(path)
        self.answer(200, image, length=len(image) // 2)
        self.close_connection = True

    def do_huge(self, _path: str) -> None:
        self.answer(200, b"", length=10**9)
        self.close_connection = True

    def do_endless(self, _path: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = bytes(2**20)
        while not self.server.stopping.is_set():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))

    def do_gzip(self, _path: str) -> None:
        self.answer(200, gzip.compress(bytes(2**20)), Content_Encoding="gzip")

    def do_redirect(self, _path: str) -> None:
        [target] = parse_qs(urlsplit(self.path).query)["to"]
        self.answer(302, Location=target)

    def do_missing(self, _path: str) -> None:
        self.answer(404)


@contextmanager
def image_server() -> Iterator[ImageServer]:
    server = ImageServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
