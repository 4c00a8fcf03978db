"""Redis is not trusted: foreign values and messages run no code and stop no process."""

from __future__ import annotations

import base64
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.helpers.processes import Stack
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]


class RunsCode:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def pickled_task() -> bytes:
    """Return a message as Celery would write it, whose arguments are a pickle."""
    delivery = {"exchange": "", "routing_key": "bulk"}
    properties = {"delivery_tag": "1", "delivery_info": delivery, "body_encoding": "base64"}
    message = {
        "body": base64.b64encode(pickle.dumps(((), {}, {}))).decode(),
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
        "headers": {"task": "products.tasks.sweep", "id": "1"},
        "properties": properties,
    }
    return json.dumps(message).encode()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("installation")) as running:
        running.start_worker()
        yield running


@pytest.fixture
def server(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.redis.url)


def overwrite_cache(server: redis.Redis, value: bytes) -> int:
    """Replace every value of Django's cache. Return how many there were."""
    keys = list(server.scan_iter("catalogmatch:*"))
    for key in keys:
        server.set(key, value, ex=60)
    return len(keys)


def test_pickles_in_the_cache_run_no_code(stack: Stack, server: redis.Redis, tmp_path: Path) -> None:
    target = tmp_path / "code-has-run"
    assert stack.call("GET", "/api/products").status == 200
    assert overwrite_cache(server, pickle.dumps(RunsCode(target))) > 0
    assert stack.call("GET", "/api/products").status == 200
    assert not target.exists()


@pytest.mark.parametrize(
    "value",
    [b"", b"\xff\xfe", b"{", b'{"a": 1}', b'["text"]', b"[[[[]]]]", b"null", b"1e999", b"[" * 100_000],
    ids=["empty", "not UTF-8", "half", "object", "texts", "nested", "null", "infinite", "deep"],
)
def test_foreign_values_in_the_cache_are_ignored(stack: Stack, server: redis.Redis, value: bytes) -> None:
    assert stack.call("GET", "/api/products").status == 200
    assert overwrite_cache(server, value) > 0
    assert stack.call("GET", "/api/products").status == 200


@pytest.mark.parametrize(
    "message",
    [
        b"not JSON",
        b"\x80\x04.",
        b"{}",
        b"[]",
        json.dumps({"body": "", "headers": {}, "properties": {}}).encode(),
        pickled_task(),
    ],
    ids=["text", "pickle", "empty object", "list", "no tag", "pickled task"],
)
def test_worker_survives_foreign_messages(stack: Stack, server: redis.Redis, message: bytes) -> None:
    for queue in ("questions", "bulk"):
        server.lpush(queue, message)
    response = stack.upload([jpeg(len(message))], wait=60)
    assert (response.status, response.body["status"]) == (201, "success")
