"""With a real web server, Redis and worker: log lines of the worker have the id of the upload request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import Stack
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


def lines(stack: Stack, process: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.log(process).splitlines() if line.startswith("{")]


def request_of(stack: Stack, path: str) -> str:
    """Return the id that the web server logged for the one request of ``path``."""
    [line] = [line for line in lines(stack, "web") if line.get("path") == path]
    return str(line["request_id"])


def test_worker_logs_have_the_request_id_of_the_upload(tmp_path: Path) -> None:
    with Stack(tmp_path, CATALOGMATCH_LOG_JSON="1") as stack:
        stack.start_worker()
        response = stack.upload([jpeg(1)], wait=20)
        assert response.body["status"] == "success"
        traced = request_of(stack, "/api/products/upload")
        stored = [line for line in lines(stack, "worker") if line["logger"] == "products.queue.embed"]
        assert [line["request_ids"] for line in stored] == [[traced]]
        # Celery logs in the same format, and without results.
        assert any(line["logger"].startswith("celery") for line in lines(stack, "worker"))
        assert "succeeded in" not in stack.log("worker")
