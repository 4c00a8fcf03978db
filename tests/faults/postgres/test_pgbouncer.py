"""pgbouncer in transaction mode between CatalogMatch and PostgreSQL, with the settings that the documentation names."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.faults.integrity import assert_intact, wait_until_idle
from tests.helpers.database import InstallationDatabase
from tests.helpers.processes import Stack, wait_until
from tests.helpers.redis_server import free_port
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.postgres, pytest.mark.timeout(300)]

UNMATCHED = "SELECT count(*) FROM products WHERE unmatched_since IS NOT NULL"

CONFIGURATION = """
[databases]
catalogmatch = host=127.0.0.1 port={server_port} user=tester password=tester
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
"""


class Pooler:
    """A pgbouncer that a test may kill and start again."""

    def __init__(self, folder: Path, server_port: int) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            missing = "no pgbouncer: install the package pgbouncer"
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
        self.port = free_port()
        self._file = folder / "pgbouncer.ini"
        self._file.write_text(CONFIGURATION.format(server_port=server_port, port=self.port, folder=folder))
        (folder / "users").write_text('"tester" "tester"\n')
        self._command = [program, str(self._file)]
        if os.getuid() == 0:  # it refuses to run as root
            for path in (folder, self._file, folder / "users"):
                path.chmod(0o755)
            self._command[1:1] = ["--user", "nobody"]
        self._log = (folder / "pgbouncer.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def pooled(folder: Path, server_port: int) -> Iterator[Pooler]:
    pooler = Pooler(folder, server_port)
    pooler.start()
    try:
        yield pooler
    finally:
        pooler.kill()


@pytest.fixture
def config_folder() -> Iterator[Path]:
    """Return a folder that pgbouncer's own user can reach."""
    folder = Path("/tmp") / f"catalogmatch-pgbouncer-{free_port()}"  # pytest's folders belong to root
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_everything_works_through_four_pooled_connections(tmp_path: Path, config_folder: Path) -> None:
    postgres.require_server()
    with postgres.server() as server, pooled(config_folder, server.port) as pooler:
        url = server.url(pooler.port) + "?DISABLE_SERVER_SIDE_CURSORS=True"
        with Stack(tmp_path, DATABASE_URL=url) as stack:
            stack.database = InstallationDatabase(tmp_path, server.url())
            worker = stack.start_worker(FAULT_SECONDS_PER_IMAGE="0.02")
            accepted = {}
            for number in range(12):
                fields: dict[str, Any] = {"sku": f"pooled {number}", "is_historical": ["false", "true"][number % 2]}
                response = stack.upload([jpeg(number), jpeg(number + 1)], **fields)
                assert response.status == 201, response
                accepted[response.body["product_id"]] = 2
                if number == 5:
                    pooler.kill()
                    refused = stack.upload([jpeg(1)])
                    assert (refused.status, refused.body["code"]) == (503, "database_unavailable")
                    pooler.start()
                    wait_until(lambda: stack.call("GET", "/api/queue").status == 200, 30, "the API responds again")
            wait_until_idle(stack)
            wait_until(lambda: stack.rows(UNMATCHED) == [(0,)], 60, "all are matched")
            assert worker.poll() is None
            assert_intact(stack, accepted)
            for _ in range(20):  # more than the five executions after which psycopg would prepare a statement
                assert stack.match_image(jpeg(1), wait=30).body["matches"]
            assert stack.call("GET", "/api/matches").body["count"] > 0
            assert "Embedded 24 images" in stack.manage("reindex", "--all")
            assert stack.manage("verify") == "No problems found.\n"
