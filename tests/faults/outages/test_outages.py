"""Redis loses its data, stops, freezes or is unreachable: uploads are accepted at once and embedded afterwards."""

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
# One timeout of Redis takes a second or two. Much more would mean several timeouts in one request.
MAX_RESPONSE_SECONDS = 5.0

THREE = [jpeg(seed) for seed in range(3)]


@contextmanager
def stopped(stack: Stack) -> Iterator[None]:
    """Stop Redis: connections are refused."""
    stack.redis.stop()
    yield
    stack.redis.start()


@contextmanager
def frozen(stack: Stack) -> Iterator[None]:
    """Freeze Redis: it accepts data and never responds."""
    assert stack.redis.process is not None
    stack.redis.process.send_signal(signal.SIGSTOP)
    yield
    stack.redis.process.send_signal(signal.SIGCONT)


@contextmanager
def mute(stack: Stack) -> Iterator[None]:
    """Let another program listen on its port, which accepts connections and never responds."""
    stack.redis.stop()
    with socket.create_server(("127.0.0.1", stack.redis.port), backlog=100):
        yield
    stack.redis.start()


@contextmanager
def unreachable(stack: Stack) -> Iterator[None]:
    """Drop packets like a firewall: a listener with a full queue accepts no connections."""
    stack.redis.stop()
    with ExitStack() as sockets:
        sockets.enter_context(socket.create_server(("127.0.0.1", stack.redis.port), backlog=0))
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", stack.redis.port))
        yield
    stack.redis.start()


def upload_products(stack: Stack) -> list[Response]:
    """Upload twelve products of three images from four clients, some of which wait for the features."""
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
        responses = upload_products(stack)
        query = stack.match_image(THREE[0], wait=2)
        others = [stack.call("GET", path) for path in ("/api/products", "/api/queue", "/healthz")]
    wait_until_idle(stack)
    assert (query.status, query.body["code"]) == (503, "features_pending")
    assert {response.status for response in others} == {200}
    slowest = max(response.seconds for response in [*responses, query, *others])
    record_property("slowest response", f"{slowest:.1f} s")
    assert slowest < MAX_RESPONSE_SECONDS
    assert "Redis does not respond" in stack.log("web")
    wait_until(
        lambda: stack.upload(THREE[:1], wait=5, sku="after").body["status"] == "success",
        60,
        "uploads are embedded again",
    )
    after = stack.call("GET", "/api/products?sku=after").body["results"][0]["id"]
    wait_until(lambda: stack.match_image(THREE[0], wait=30).status == 200, 60, "queries are matched again")
    assert_intact(stack, accepted([first, *responses]) | {after: 1})


def test_uploads_during_a_minute_without_redis_are_embedded_afterwards(stack: Stack, record_property: Record) -> None:
    """The web server and the worker are restarted during the outage, so they start without Redis too."""
    worker = stack.start_worker()
    responses = []
    with ClaimWatch(stack) as watch:
        with stopped(stack):
            ends = time.monotonic() + OUTAGE_SECONDS
            responses += upload_products(stack)
            assert stack.web is not None
            stack.stop(stack.web)
            stack.stop(worker, signal.SIGKILL)
            stack.start_web()
            stack.launch_worker()
            responses += upload_products(stack)
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
    assert stack.match_image(hundred[0], wait=30).status == 200


def test_worker_reconnects_when_its_redis_connection_is_dead(tmp_path: Path, record_property: Record) -> None:
    """After a failover, or in a firewall, a connection may stay open and carry no data."""
    with Relay() as relay, Stack(tmp_path, CELERY_BROKER_URL=relay.url) as stack:
        relay.port_behind = stack.redis.port
        stack.start_worker()
        assert stack.upload(THREE, wait=30).body["status"] == "success"
        relay.silence_connections()
        response = stack.upload([jpeg(3)], wait=5)
        assert response.status == 201
        assert response.seconds < 5 + MAX_RESPONSE_SECONDS
        record_property("worker back", f"after {wait_until_idle(stack):.0f} s")
        wait_until(lambda: stack.match_image(THREE[0], wait=5).status == 200, 60, "queries are matched again")
