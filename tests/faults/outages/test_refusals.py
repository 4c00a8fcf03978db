"""Redis runs but refuses commands, or another program answers: uploads go on, and the reason is named."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.faults.integrity import wait_until_idle
from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

PASSWORD = "the-secret-of-this-test"
MAX_RESPONSE_SECONDS = 5.0
SEEDS = iter(range(1_000_000))

Fault = Callable[[Stack], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("installation")) as running:
        running.start_worker()
        yield running


def client(stack: Stack, password: str | None = None) -> redis.Redis:
    return redis.Redis(port=stack.redis.port, password=password)


@contextmanager
def changed(stack: Stack, do: str, undo: str) -> Iterator[None]:
    with client(stack) as server:
        server.execute_command(*do.split())
    yield
    with client(stack) as server:
        server.execute_command(*undo.split())


@contextmanager
def new_password(stack: Stack) -> Iterator[None]:
    """Change the password of Redis and cut all connections, as a restart with another configuration does."""
    with client(stack) as server:
        server.config_set("requirepass", PASSWORD)
        server.client_kill_filter(_type="normal", skipme=True)
    yield
    with client(stack, PASSWORD) as server:
        server.config_set("requirepass", "")


@contextmanager
def other_program(stack: Stack, *replies: bytes) -> Iterator[None]:
    """Let a program listen on the port of Redis that answers each command with the next of these replies."""
    stack.redis.stop()
    stopping = threading.Event()

    def answer(connection: socket.socket) -> None:
        turn = 0
        with suppress(OSError), connection:
            connection.settimeout(1)
            while not stopping.is_set():
                with suppress(TimeoutError):
                    if not connection.recv(65536):
                        return
                    connection.sendall(replies[turn % len(replies)])
                    turn += 1

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while not stopping.is_set():
                with suppress(TimeoutError):
                    connection, _ = server.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", stack.redis.port), backlog=100) as server:
        server.settimeout(0.2)
        thread = threading.Thread(target=accept, args=(server,))
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()
    stack.redis.start()


def says(*replies: bytes) -> Fault:
    return lambda stack: other_program(stack, *replies)


FULL = "Redis refuses writes: its memory is full (maxmemory, noeviction)"
NOT_REDIS = "the server in CELERY_BROKER_URL does not answer like Redis"
FAULTS: dict[str, tuple[Fault, str]] = {
    "full": (partial(changed, do="CONFIG SET maxmemory 1", undo="CONFIG SET maxmemory 0"), FULL),
    "replica": (
        partial(changed, do="REPLICAOF 127.0.0.1 1", undo="REPLICAOF NO ONE"),
        "Redis refuses writes: it is a read-only replica",
    ),
    "no rights": (
        partial(changed, do="ACL SETUSER default -@write", undo="ACL SETUSER default +@all"),
        "Redis refuses commands: its user lacks permissions (ACL)",
    ),
    "password": (new_password, "Redis wants a password, and CELERY_BROKER_URL has none"),
    "loading": (
        says(b"-LOADING Redis is loading the dataset in memory\r\n"),
        "Redis is loading its data and refuses commands until it is done",
    ),
    "disk": (
        says(b"-MISCONF Redis is configured to save RDB snapshots, but it cannot\r\n"),
        "Redis refuses writes: it cannot save its data to disk (stop-writes-on-bgsave-error)",
    ),
    "web server": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), NOT_REDIS),
    "bytes": (says(b"\x00\xff\xfe\x80\r\n"), NOT_REDIS),
    "always OK": (says(b"+OK\r\n"), NOT_REDIS),
    "no number": (says(b":abc\r\n"), NOT_REDIS),
    "deep list": (says(b"*1\r\n" * 5_000 + b":1\r\n"), NOT_REDIS),
    "list": (says(b"*2\r\n:1\r\n+text\r\n"), NOT_REDIS),
    "map": (says(b"%1\r\n*0\r\n*0\r\n"), NOT_REDIS),
}


def reason(stack: Stack) -> str:
    response = stack.call("GET", "/readyz")
    assert response.status == 200
    return str(response.body.get("reason", ""))


def doctor(stack: Stack) -> str:
    try:
        return stack.manage("doctor")
    except subprocess.CalledProcessError as error:
        return f"{error.stdout}{error.stderr}"


@pytest.mark.parametrize(("fault", "sentence"), FAULTS.values(), ids=FAULTS)
def test_uploads_and_worker_survive_a_redis_that_refuses(stack: Stack, fault: Fault, sentence: str) -> None:
    [worker] = stack._workers
    seen = len(stack.log("web")), len(stack.log("worker"))
    with fault(stack):
        responses = [stack.upload([jpeg(next(SEEDS))], wait=wait) for wait in (0, 1)]
        query = stack.match_image(jpeg(1), wait=1)
        page = stack.call("GET", "/api/products")
        assert reason(stack) == sentence
        assert sentence in doctor(stack)
    logs = stack.log("web")[seen[0] :] + stack.log("worker")[seen[1] :]
    assert {response.status for response in responses} == {201}
    assert (query.status, query.body["code"]) == (503, "features_pending")
    assert page.status == 200
    assert max(response.seconds for response in [*responses, query, page]) < MAX_RESPONSE_SECONDS
    wait_until_idle(stack)
    wait_until(lambda: stack.match_image(jpeg(1), wait=5).status == 200, 60, "queries are matched again")
    wait_until(lambda: not reason(stack), 10, "Redis can be used again")
    assert worker.poll() is None
    assert f"Continuing without Redis: {sentence}" in logs
    assert PASSWORD not in logs


FOREIGN_KEYS = {
    "queue is a text": ("bulk", "SET bulk text"),
    "questions are a set": ("questions", "SADD questions text"),
    "bindings are a text": ("_kombu.binding.bulk", "SET _kombu.binding.bulk text"),
    "foreign binding": ("_kombu.binding.bulk", "SADD _kombu.binding.bulk text"),
    "binary binding": ("_kombu.binding.questions", b"\xff\xfe"),
    "unacknowledged": ("unacked", "SET unacked text"),
    "index of them": ("unacked_index", "SET unacked_index text"),
}


@pytest.mark.parametrize(("key", "command"), FOREIGN_KEYS.values(), ids=FOREIGN_KEYS)
def test_foreign_values_under_the_keys_of_celery_stop_nothing(stack: Stack, key: str, command: str | bytes) -> None:
    [worker] = stack._workers
    with client(stack) as server:
        server.delete(key)
        if isinstance(command, bytes):
            server.sadd(key, command)
        else:
            server.execute_command(*command.split())
        responses = [stack.upload([jpeg(next(SEEDS))], wait=wait) for wait in (0, 1)]
        query = stack.match_image(jpeg(1), wait=1)
        if key in ("bulk", "questions"):
            assert "foreign values under the names of CatalogMatch's queues" in reason(stack)
        server.delete(key)
    assert {response.status for response in responses} == {201}
    assert query.status in (200, 503)
    wait_until_idle(stack)
    wait_until(lambda: stack.match_image(jpeg(1), wait=5).status == 200, 60, "queries are matched again")
    assert worker.poll() is None


@pytest.mark.parametrize("command", ["LPUSH", "SADD", "APPEND"])
def test_foreign_values_under_the_keys_of_the_cache_are_replaced(stack: Stack, command: str) -> None:
    assert stack.call("GET", "/api/products").status == 200
    seen = len(stack.log("web"))
    with client(stack) as server:
        keys = list(server.scan_iter("catalogmatch:*throttle*"))
        assert keys
        for key in keys:
            server.delete(key)
            server.execute_command(command, key, "text")
        assert stack.call("GET", "/api/products").status == 200
        assert {server.type(key) for key in keys} == {b"string"}
    assert "Continuing without Redis" not in stack.log("web")[seen:]


def test_wrong_password_is_named_and_never_printed(tmp_path: Path) -> None:
    """Web and worker start with the wrong password and work as soon as Redis takes it."""
    wrong = f"wrong-{PASSWORD}"
    with Stack(tmp_path) as stack:
        stack._env["CELERY_BROKER_URL"] = stack.redis.url.replace("//", f"//:{wrong}@")
        with client(stack) as server:
            server.config_set("requirepass", PASSWORD)
        assert stack.web is not None
        stack.stop(stack.web)
        stack.start_web()
        worker = stack.launch_worker()
        uploaded = stack.upload([jpeg(1)], wait=1)
        assert uploaded.status == 201
        assert reason(stack) == "Redis refuses the password in CELERY_BROKER_URL"
        report = doctor(stack)
        assert "Redis refuses the password in CELERY_BROKER_URL" in report
        wait_until(lambda: "Cannot connect to" in stack.log("worker"), 30, "the worker says that it cannot connect")
        with client(stack, PASSWORD) as server:
            server.config_set("requirepass", wrong)
        wait_until_idle(stack)
        wait_until(lambda: stack.match_image(jpeg(1), wait=5).status == 200, 60, "queries are matched")
        assert worker.poll() is None
        assert PASSWORD not in report + stack.log("web") + stack.log("worker")
