"""Requests that only a socket can send, to gunicorn with the configuration of production: none is answered with 5xx."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.helpers.web.raw_http import HEALTHZ, connect, read_response, responses

pytestmark = pytest.mark.faults

JSON = "application/json"
ADDRESSES = [
    "/admin/login/",
    "/api/queue",
    "/api/products?page=2",
    "/static/catalogmatch/admin.css",
    "/nothing",
    "/healthz",
]
NAMES = [
    "Authorization", "Cookie", "Accept", "Accept-Encoding", "Accept-Language", "Range", "If-Range", "If-Match",
    "If-None-Match",
    "If-Modified-Since", "If-Unmodified-Since", "Referer", "Origin", "Host", "X-Request-ID", "X-CSRFToken",
    "X-Forwarded-For",
    "X-Forwarded-Proto", "HX-Request", "HX-Current-URL", "Content-Type", "Content-Length", "Content-Encoding",
    "Transfer-Encoding",
    "Expect", "Connection", "Upgrade", "TE", "Trailer", "Keep-Alive", "Script-Name", "Remote-User", "", "X Y", "X_Y",
    "X\xff",
]  # fmt: skip
VALUES = [
    b"", b" ", b"\xff\xfe", "é".encode(), "ключ".encode(), "²٣".encode(), b"a\0b", b"a\tb", b"a\rb", b"a\x0bb",
    b"\x80", b"x" * 7000,
    b"x" * 70_000, b"-1", b"+1", b"1_0", b"1e9", b"99999999999999999999999", b"0x10", b"1, 1", b"1;1", b"=", b";",
    b",", b'"',
    b"bytes=-", b"bytes=9-1", b"bytes=0-99999999999999999999999", b"bytes=" + b"0-0," * 1000, b"Token \xe9\xff",
    b"Bearer \0",
    b"Basic \xff", b"text/plain; charset=hex", b"text/plain; charset=undefined", b"text/plain; charset=a\0b",
    b"text/plain; charset=\xff", b"multipart/form-data", b"multipart/form-data; boundary=\xff",
    b"application/json; charset=utf-16",
    b"sessionid=\xff; csrftoken=\xc3", b"sessionid=" + b"x" * 7000, b"*", b"chunked", b"identity, chunked",
    b"100-continue", b"200-x",
    b"websocket", b"h2c", b"close", b"http://[", b"Mon, 99 Foo 99999 99:99:99 GMT", b"de;q=nan", b"x" * 300,
    b"127.0.0.1:99999999",
]  # fmt: skip
LINES = [
    b"", b"GET", b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/9.9", b"GET / HTTP/\xff", b"get / HTTP/1.1",
    b"G\xffT / HTTP/1.1",
    b"\0 / HTTP/1.1", b"PROPFIND /admin/ HTTP/1.1", b"TRACE / HTTP/1.1", b"CONNECT 127.0.0.1:80 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"OPTIONS * HTTP/1.1", b"GET * HTTP/1.1", b"GET http://[ HTTP/1.1", b"GET http://evil.example/admin/ HTTP/1.1",
    b"GET //evil.example/ HTTP/1.1", b"GET /admin HTTP/1.1", b"GET /\xff\xfe HTTP/1.1",
    b"GET /api/\xe9?\xff=\xff HTTP/1.1",
    b"GET /%zz%?%=%zz HTTP/1.1", b"GET /%00?a=%00 HTTP/1.1", b"GET /%ed%a0%80 HTTP/1.1", b"GET /static/%00 HTTP/1.1",
    b"GET /static/..%2f..%2fsettings.py HTTP/1.1", b"GET /static/%ff HTTP/1.1", b"GET /static/\xff HTTP/1.1",
    b"GET /a#b?c HTTP/1.1",
    b"GET /media/pictures/00/%0a.jpg HTTP/1.1", b"GET /" + b"x" * 3000 + b" HTTP/1.1",
    b"GET /" + b"x" * 5000 + b" HTTP/1.1",
    b"GET /api/products?" + b"a=1&" * 900 + b" HTTP/1.1", b"GET /api/products?" + b"&" * 3000 + b" HTTP/1.1",
    b"GET ?x HTTP/1.1",
    b"GET /api/products/" + b"9" * 3000 + b" HTTP/1.1", b"HEAD /api/products HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]  # fmt: skip


def requests(token: str) -> Iterator[bytes]:
    """Return heads and bodies with one fault each, and some headers twice."""
    for line in LINES:
        yield line + b"\r\nHost: 127.0.0.1\r\n\r\n"
    for name in NAMES:
        header = name.encode("latin-1")
        for number, value in enumerate(VALUES):
            address = ADDRESSES[number % len(ADDRESSES)]
            method = "GET" if number % 3 else "POST"
            host = b"" if name == "Host" else b"Host: 127.0.0.1\r\n"
            signed = b"" if name == "Authorization" else f"Authorization: Token {token}\r\n".encode()
            yield f"{method} {address} HTTP/1.1\r\n".encode() + host + signed + header + b": " + value + b"\r\n\r\n"
    for name in ("Host", "Authorization", "Content-Length", "Content-Type", "Cookie", "Transfer-Encoding"):
        for first, second in (("127.0.0.1", "x"), ("5", "6"), ("chunked", "chunked"), ("", "")):
            twice = f"{name}: {first}\r\n{name}: {second}\r\n\r\nhello"
            yield f"POST /api/queue HTTP/1.1\r\nHost: 127.0.0.1\r\n{twice}".encode()
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield b"GET / HTTP/1.0\r\n\r\n"
    yield b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n"
    yield b"GET / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n folded: 1\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: 1\r\n" * 500 + b"\r\n"
    signed = f"Authorization: Token {token}\r\n".encode()
    # Django reads the query in the charset of the Content-Type while it makes the request, outside of its own handling.
    for charset in ("hex", "undefined", "idna", "utf-8", "klingon", "\xff"):
        for place in ("/api/products", "/admin/login/"):
            for query in ("a=%ff", "a=%ff&" + "a=1&" * 1100):
                kind = f"Content-Type: x/y; charset={charset}"
                yield f"GET {place}?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n\r\n".encode("latin-1")
    for body in (b"--x\r\n", b"\xff", b"", b'{"a": NaN}'):
        for kind in ("multipart/form-data", "multipart/form-data; boundary=x", JSON, f"{JSON}; charset=hex"):
            for call in ("POST /api/products/upload?wait=0", "POST /api/match", "PATCH /api/products/1"):
                headers = f"{call} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n".encode()
                yield headers + signed + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def status_of(port: int, request: bytes) -> int:
    """Return the status of the response, or 0 if the server closed the connection without one."""
    with connect(port) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        found = re.match(rb"HTTP/1\.[01] (\d{3})", read_response(connection))
    return int(found[1]) if found else 0


def test_no_raw_request_is_answered_with_5xx(server: tuple[int, str], record_property: Any) -> None:
    port, token = server
    statuses: dict[int, int] = {}
    wrong = []
    for request in requests(token):
        status = status_of(port, request)
        statuses[status] = statuses.get(status, 0) + 1
        # 501 is gunicorn's word for a transfer encoding that it does not know.
        if status >= 500 and status != 501:
            wrong.append((status, request[:300]))
    record_property("statuses", dict(sorted(statuses.items())))
    assert not wrong, wrong
    assert responses(port, HEALTHZ).startswith(b"HTTP/1.1 200 ")
