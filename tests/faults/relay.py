"""A relay in front of a server that drops connections silently or cuts them, like a firewall or a failover."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """Forward each connection to ``port_behind``. Silenced connections stay open and forward no more data.

    A connection on which a client sends ``cut_after`` is cut once the server has responded, before the client sees it.
    """

    def __init__(self) -> None:
        self.port_behind = 0
        self.cut_after = b""
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._silent: set[socket.socket] = set()
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

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
                try:
                    behind = socket.create_connection(("127.0.0.1", self.port_behind))
                except OSError:
                    client.close()
                    continue
                self._open |= {client, behind}
                is_cut = threading.Event()
                for source, target in ((client, behind), (behind, client)):
                    threading.Thread(
                        target=self._pass, args=(source, target, is_cut, source is client), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_cut: threading.Event, from_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if from_client and self.cut_after and self.cut_after in data:
                    is_cut.set()
                elif is_cut.is_set():
                    self.cuts += 1
                    break
                if source not in self._silent:
                    target.sendall(data)
        if source not in self._silent:
            for each in (source, target) if is_cut.is_set() else (target,):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
