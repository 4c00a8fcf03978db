"""Redis is emptied, stopped, frozen or swallowed by the network: uploads are taken at once, and embedded afterwards."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.integrity import MAX_CLAIM_SECONDS, ClaimWatch, assert_intact, wait_until_idle
from tests.faults.relay import Relay
from tests.helpers.processes import Response, Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

Record = Callable[[str, object], None]

OUTAGE_SECONDS = 60
# A request finds out once that Redis is silent, which takes a second or two. Much more would be waiting in a row.
AT_ONCE = 5.0

THREE = [jpeg(seed) for seed in range(3)]


@contextmanager
def stopped(stack: Stack) -> Iterator[None]:
    """Nobody listens: connections are refused."""
    stack.redis.stop()
    yield
    stack.redis.start()


@contextmanager
def frozen(stack: Stack) -> Iterator[None]:
    """The server stands still: what is sent to it arrives, and is never answered."""
    assert stack.redis.process is not None
    stack.redis.process.send_signal(signal.SIGSTOP)
    yield
    stack.redis.process.send_signal(signal.SIGCONT)


@contextmanager
def mute(stack: Stack) -> Iterator[None]:
    """Something else listens at its port: it takes connections and says nothing."""
    stack.redis.stop()
    with socket.create_server(("127.0.0.1", stack.redis.port), backlog=100):
        yield
    stack.redis.start()


@contextmanager
def unreachable(stack: Stack) -> Iterator[None]:
    """Packets are dropped, as by a firewall: a listener whose queue is full does not even take connections."""
    stack.redis.stop()
    with ExitStack() as sockets:
        sockets.enter_context(socket.create_server(("127.0.0.1", stack.redis.port), backlog=0))
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", stack.redis.port))
        yield
    stack.redis.start()


def upload_some(stack: Stack) -> list[Response]:
    """Twelve products of three images from four clients, some of whom would wait for the features."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda number: stack.upload(THREE, wait=5 * (number % 2)), range(12)))


def accepted(responses: list[Response]) -> dict[int, int]:
    assert {response.status for response in responses} == {201}
    return {response.body["product_id"]: len(THREE) for response in responses}


@pytest.mark.parametrize("outage", [stopped, frozen, mute, unreachable])
def test_uploads_do_not_wait_for_an_unreachable_redis(
    stack: Stack, outage: Callable[[Stack], Iterator[None]], record_property: Record
) -> None:
    stack.start_worker()
    first = stack.upload(THREE, wait=30)
    assert first.body["status"] == "success"
    with outage(stack):  # type: ignore[attr-defined]
        responses = upload_some(stack)
        question = stack.ask(THREE[0], wait=2)
        others = [stack.call("GET", path) for path in ("/api/products", "/api/queue", "/healthz")]
    wait_until_idle(stack)
    assert (question.status, question.body["code"]) == (503, "features_pending")
    assert {response.status for response in others} == {200}
    slowest = max(response.seconds for response in [*responses, question, *others])
    record_property("slowest answer", f"{slowest:.1f} s")
    assert slowest < AT_ONCE
    assert "Redis does not respond" in stack.log("web")
    wait_until(lambda: stack.upload(THREE[:1], wait=5, sku="after").body["status"] == "success", 60, "all is as before")
    after = stack.call("GET", "/api/products?sku=after").body["results"][0]["id"]
    wait_until(lambda: stack.ask(THREE[0], wait=30).status == 200, 60, "questions are answered again")
    assert_intact(stack, accepted([first, *responses]) | {after: 1})


def test_uploads_during_a_minute_without_redis_are_embedded_afterwards(stack: Stack, record_property: Record) -> None:
    """Nothing depends on it to start, either: the web server and the worker are restarted meanwhile."""
    worker = stack.start_worker()
    responses = []
    with ClaimWatch(stack) as watch:
        with stopped(stack):
            ends = time.monotonic() + OUTAGE_SECONDS
            responses += upload_some(stack)
            assert stack.web is not None
            stack.stop(stack.web)
            stack.stop(worker, signal.SIGKILL)
            stack.start_web()
            stack.launch_worker()
            responses += upload_some(stack)
            time.sleep(max(0, ends - time.monotonic()))
        seconds = wait_until_idle(stack)
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    record_property("all embedded", f"{seconds:.0f} s after its return")
    assert_intact(stack, accepted(responses))
    assert stack.upload([jpeg(9)], wait=30).body["status"] == "success"


def test_images_are_embedded_although_redis_loses_all_messages(stack: Stack, record_property: Record) -> None:
    stack.start_worker(FAULT_SECONDS_PER_IMAGE="0.02")
    hundred = [jpeg(seed) for seed in range(100)]
    products = {}
    with ClaimWatch(stack) as watch:
        for _ in range(3):
            products[stack.upload(hundred).body["product_id"]] = 100
            stack.redis.command("FLUSHALL")
        wait_until_idle(stack)
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    assert_intact(stack, products)
    stack.redis.command("FLUSHALL")
    assert stack.upload([jpeg(100)], wait=30).body["status"] == "success"
    assert stack.ask(hundred[0], wait=30).status == 200


def test_worker_reconnects_when_its_redis_connection_is_dead(tmp_path: Path, record_property: Record) -> None:
    """Redis moved to another machine, or a firewall forgot the connection: nothing ends it, and nothing comes by it."""
    with Relay() as relay, Stack(tmp_path, CELERY_BROKER_URL=relay.url) as stack:
        relay.port_behind = stack.redis.port
        stack.start_worker()
        assert stack.upload(THREE, wait=30).body["status"] == "success"
        relay.silence_connections()
        response = stack.upload([jpeg(3)], wait=5)
        assert response.status == 201
        assert response.seconds < 5 + AT_ONCE
        record_property("worker back", f"after {wait_until_idle(stack):.0f} s")
        wait_until(lambda: stack.ask(THREE[0], wait=5).status == 200, 60, "questions are answered again")
