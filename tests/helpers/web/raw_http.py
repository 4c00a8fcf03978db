"""Send bytes to a web server as they are, and read what it sends back."""

from __future__ import annotations

import re
import socket
from contextlib import suppress

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def read_response(connection: socket.socket) -> bytes:
    """Read until the end of the response or of the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
            head, _, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if length and len(body) >= int(length[1]):
                break
    return received


def responses(port: int, request: bytes) -> bytes:
    with suppress(ConnectionRefusedError), connect(port) as connection:
        connection.sendall(request)
        return read_response(connection)
    return b""
