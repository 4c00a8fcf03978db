"""Redis is not trusted: foreign values and messages run no code and stop no process."""

from __future__ import annotations

import ast
import base64
import json
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from core.redis_channel import CheckedChannel
from tests.helpers.installations import REPO
from tests.helpers.processes import Stack
from tests.helpers.sample_images import jpeg

RISKY_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]


class RunsCode:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def pickled_task(arguments: object = ((), {}, {}), serializer: str = "application/x-python-serialize") -> bytes:
    """Return a message as Celery would write it, whose arguments are a pickle."""
    delivery = {"exchange": "", "routing_key": "bulk"}
    properties = {"delivery_tag": "1", "delivery_info": delivery, "body_encoding": "base64"}
    message = {
        "body": base64.b64encode(pickle.dumps(arguments)).decode(),
        "content-type": serializer,
        "content-encoding": "binary",
        "headers": {"task": "products.tasks.sweep", "id": "1"},
        "properties": properties,
    }
    return json.dumps(message).encode()


def compressed_task(compression: str) -> bytes:
    """Return a message of Celery's form with a body that cannot be decompressed."""
    message = json.loads(pickled_task(serializer="application/json"))
    message["headers"]["compression"] = compression
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
        compressed_task("application/x-gzip"),
        compressed_task("application/x-foreign"),
    ],
    ids=["text", "pickle", "empty object", "list", "no tag", "pickled task", "damaged gzip", "foreign compression"],
)
def test_worker_survives_foreign_messages(stack: Stack, server: redis.Redis, message: bytes) -> None:
    for queue in ("questions", "bulk"):
        server.lpush(queue, message)
    response = stack.upload([jpeg(len(message))], wait=60)
    assert (response.status, response.body["status"]) == (201, "success")


@pytest.mark.parametrize("serializer", ["application/x-python-serialize", "application/data", "application/json", ""])
def test_pickled_messages_run_no_code(stack: Stack, server: redis.Redis, tmp_path: Path, serializer: str) -> None:
    target = tmp_path / "code-has-run"
    message = pickled_task(RunsCode(target), serializer)
    for queue in ("questions", "bulk"):
        server.lpush(queue, message)
    server.publish("/0.celery.pidbox", message)
    assert stack.upload([jpeg(len(serializer) + 50)], wait=60).body["status"] == "success"
    assert not target.exists()


def test_message_that_tells_workers_to_stop_is_ignored(stack: Stack, server: redis.Redis) -> None:
    command: dict[str, object] = {
        "method": "shutdown",
        "arguments": {},
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
    message = json.loads(pickled_task())
    message |= {"body": base64.b64encode(json.dumps(command).encode()).decode(), "content-type": "application/json"}
    message["content-encoding"] = "utf-8"
    server.publish("/0.celery.pidbox", json.dumps(message))
    assert stack.upload([jpeg(99)], wait=60).body["status"] == "success"
    assert stack.has_workers()


def test_greeting_that_is_none_is_an_error_that_the_worker_survives() -> None:
    """A server that says OK to everything once ended the worker, when an acknowledgement opened the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def say_ok() -> None:
            connection, _address = listening.accept()
            with connection:
                while connection.recv(65_536):
                    connection.sendall(b"+OK\r\n" * 3)

        thread = threading.Thread(target=say_ok)
        thread.start()
        client = CheckedChannel.connection_class(host="127.0.0.1", port=listening.getsockname()[1])
        with pytest.raises(redis.exceptions.InvalidResponse, match="a foreign reply or value"):
            client.connect()
        client.disconnect()
        thread.join(10)


def test_only_the_pipe_to_own_processes_uses_pickle() -> None:
    """Nothing else of the program can run code that it reads."""
    found = set()
    for package in ("core", "gpu", "products", "matching", "catalogmatch"):
        for path in (REPO / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                imports = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
                imports |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
                calls = {node.func.id} if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else set()
                if {name.partition(".")[0] for name in imports} & RISKY_MODULES or calls & {"eval", "exec"}:
                    found.add(str(path.relative_to(REPO)))
    # The second one only names an error: torch reads checkpoints without running code from them.
    assert found == {"gpu/pipes.py", "gpu/training/checkpoints.py"}
