"""Slow and aborted requests, on gunicorn with the configuration of production."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.helpers.sample_images import jpeg
from tests.helpers.web.raw_http import HEALTHZ, connect, read_response, responses

pytestmark = pytest.mark.faults


def head(token: str, length: int) -> bytes:
    return (
        "POST /api/products/upload?wait=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Token {token}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def form(**fields: str) -> bytes:
    """Return the body of an upload: the image first, then other fields."""
    parts = [b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.jpg"\r\n\r\n' + jpeg(1) + b"\r\n"]
    parts += [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    return b"".join(parts) + b"--x--\r\n"


def test_client_that_sends_a_gigabyte_can_read_the_error(server: tuple[int, str]) -> None:
    port, token = server
    with connect(port) as connection:
        connection.sendall(head(token, 2**30))
        connection.sendall(bytes(4 * 2**20))
        response = read_response(connection)
    assert response.startswith(b"HTTP/1.1 413 ")
    assert json.loads(response.partition(b"\r\n\r\n")[2])["code"] == "image_too_large"


def test_request_shorter_than_its_content_length_is_rejected(server: tuple[int, str]) -> None:
    port, token = server
    body = form(sku="CUT-SHORT")
    with connect(port) as connection:
        # The image is complete but its SKU is missing. Accepting it would create another product.
        connection.sendall(head(token, len(body)) + body[: body.index(b"sku") - 40])
        connection.shutdown(socket.SHUT_WR)
        response = read_response(connection)
    assert response.startswith(b"HTTP/1.1 408 ")
    listed = responses(
        port, f"GET /api/products HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Token {token}\r\n\r\n".encode()
    )
    assert json.loads(listed.partition(b"\r\n\r\n")[2])["count"] == 0


def test_slow_clients_are_cut_off_and_delay_no_other_client(server: tuple[int, str]) -> None:
    port, token = server
    slow = [connect(port) for _ in range(50)]
    for number, connection in enumerate(slow):
        connection.sendall(head(token, 2**20) if number % 2 else b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    cut: set[socket.socket] = set()
    deadline = time.monotonic() + 40
    while len(cut) < len(slow) and time.monotonic() < deadline:
        for connection in slow:
            if connection not in cut:
                try:
                    connection.sendall(b"x" * 10)
                    connection.setblocking(False)
                    if connection.recv(4096) == b"":
                        cut.add(connection)
                except BlockingIOError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    cut.add(connection)
        with connect(port) as ordinary:
            ordinary.settimeout(5)
            ordinary.sendall(HEALTHZ)
            assert read_response(ordinary).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.1)
    assert len(cut) == 50
    assert responses(port, head(token, len(form())) + form()).startswith(b"HTTP/1.1 201 ")
    for connection in slow:
        connection.close()
