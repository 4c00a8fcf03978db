"""SQLite's file is damaged under a running web server and worker: they go on, and say what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.faults


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * (path.stat().st_size // 2))


def cut(path: Path) -> None:
    os.truncate(path, 1000)


@pytest.mark.parametrize("damage", [overwrite, cut])
def test_running_web_server_and_worker_say_that_the_database_is_damaged(
    stack: Stack, damage: Callable[[Path], None]
) -> None:
    worker = stack.start_worker()
    assert stack.upload([jpeg(1)], wait=20).body["status"] == "success"
    for path in (stack.folder / "var").glob("catalogmatch.sqlite3-*"):
        path.unlink()
    damage(stack.folder / "var" / "catalogmatch.sqlite3")

    def is_reported() -> bool:
        try:
            response = stack.call("GET", "/api/products")
        except OSError:
            return False  # its process has ended, see below
        return response.status == 503 and response.body["code"] == "database_unavailable"

    # SQLite maps its file, so cutting it may end a process of the web server, which gunicorn replaces.
    wait_until(is_reported, 30, "the API says that the database is not available")
    assert stack.call("GET", "/readyz").status == 503
    assert stack.call("GET", "/healthz").status == 200

    def worker_reports() -> bool:
        nonlocal worker
        if worker.poll() is not None:  # likewise, at any of its reads: the service manager starts it again
            worker = stack.launch_worker()
        return "is damaged: " in stack.log("worker")

    wait_until(worker_reports, 60, lambda: stack.log("worker")[-2000:])
    assert stack.has_workers()
