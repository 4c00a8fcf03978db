"""A relay in front of Redis that can drop its connections silently, like a firewall or a failover."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """Forward each connection to ``port_behind``. Silenced connections stay open and forward no more data."""

    def __init__(self) -> None:
        self.port_behind = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._silent: set[socket.socket] = set()
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.getsockname()[1]}/0"

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._server, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def silence_connections(self) -> None:
        """Stop forwarding on all open connections. New connections work."""
        self._silent |= self._open

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                behind = socket.create_connection(("127.0.0.1", self.port_behind))
                self._open |= {client, behind}
                for pair in ((client, behind), (behind, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source not in self._silent:
                    target.sendall(data)
            if source not in self._silent:
                target.shutdown(socket.SHUT_RDWR)
