"""PostgreSQL crashes, cuts connections or ends slow transactions, and processes die in the middle of a batch."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException

import pytest

from tests.faults.integrity import MAX_CLAIM_SECONDS, ClaimWatch, assert_intact, wait_until_idle
from tests.faults.postgres.conftest import Installation
from tests.helpers.processes import Response, Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.postgres, pytest.mark.timeout(300)]

Record = Callable[[str, object], None]

MAX_RESPONSE_SECONDS = 10.0
UNMATCHED = "SELECT count(*) FROM products WHERE unmatched_since IS NOT NULL"


class Client(threading.Thread):
    """Upload one product after another. Send each again until it is accepted, as the response asks."""

    def __init__(self, stack: Stack, name: str) -> None:
        super().__init__(name=name)
        self._stack = stack
        self.stopping = threading.Event()
        self.accepted: dict[int, int] = {}
        self.refused: list[Response] = []
        self.unexpected: list[Response] = []

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            files = [jpeg(seed) for seed in range(number % 4 + 1)]
            while not self._upload(files, f"{self.name} {number}"):
                time.sleep(0.1)
            time.sleep(0.05)  # so that the queue does not grow faster than the worker embeds

    def _upload(self, files: list[bytes], sku: str) -> bool:
        try:
            response = self._stack.upload(files, sku=sku)
        except (OSError, HTTPException):  # the web server was killed
            return False
        if response.status == 503 and response.body["code"] == "database_unavailable":
            self.refused.append(response)
            return False
        if response.status not in (200, 201):
            self.unexpected.append(response)
        else:
            self.accepted[response.body["product_id"]] = len(files)
        return True


class Clients:
    """Two clients that upload during the block."""

    def __init__(self, stack: Stack) -> None:
        self._clients = [Client(stack, f"client {number}") for number in range(2)]

    def __enter__(self) -> Clients:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.stopping.set()
        for client in self._clients:
            client.join()

    @property
    def accepted(self) -> dict[int, int]:
        assert [response for client in self._clients for response in client.unexpected] == []
        return self._clients[0].accepted | self._clients[1].accepted

    @property
    def refused(self) -> list[Response]:
        return [response for client in self._clients for response in client.refused]


def assert_complete(stack: Stack, accepted: dict[int, int]) -> None:
    """Check that everything accepted is embedded once and matched, and that the next upload succeeds."""
    wait_until_idle(stack)
    wait_until(lambda: stack.rows(UNMATCHED) == [(0,)], 60, "all are matched")
    assert_intact(stack, accepted, uploads_died=True)
    stack.manage("verify", "--fix")
    assert stack.manage("verify") == "No problems found.\n"
    assert stack.upload([jpeg(99)], wait=30).body["status"] == "success"


def test_web_and_worker_killed_in_the_middle_of_a_batch_lose_nothing(
    installation: Installation, record_property: Record
) -> None:
    stack, moments = installation.stack, random.Random(18)
    slow = {"FAULT_SECONDS_PER_IMAGE": "0.02", "FAULT_SECONDS_PER_COMMIT": "0.02"}
    worker = stack.start_worker(**slow)
    with Clients(stack) as clients, ClaimWatch(stack) as watch:
        for number in range(6):
            wait_until(lambda: stack.claimed() > 0, 60, "the worker claims images")
            time.sleep(moments.uniform(0, 0.2))
            if number % 3 == 2:
                assert stack.web is not None
                stack.stop(stack.web, signal.SIGKILL)
                stack.start_web()
            else:
                stack.stop(worker, signal.SIGKILL)
                worker = stack.start_worker(**slow)
    wait_until_idle(stack)
    record_property("products", len(clients.accepted))
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    assert_complete(stack, clients.accepted)


def test_crashes_and_restarts_of_the_server_lose_nothing(installation: Installation, record_property: Record) -> None:
    stack, server = installation.stack, installation.server
    worker = stack.start_worker(FAULT_SECONDS_PER_IMAGE="0.02")
    responses: list[Response] = []
    with Clients(stack) as clients:
        for _ in range(4):
            wait_until(lambda: stack.claimed() > 0, 60, "the worker claims images")
            server.crash()
            responses += [stack.call("GET", path) for path in ("/api/products", "/api/queue", "/readyz")]
            responses.append(stack.upload([jpeg(1)]))
            assert stack.call("GET", "/healthz").status == 200
            time.sleep(0.5)
            server.start()
            wait_until(lambda: stack.call("GET", "/api/queue").status == 200, 30, "the API responds again")
            wait_until(lambda: stack.call("GET", "/readyz").status == 200, 30, "the web server is ready again")
    assert Counter(response.status for response in responses) == {503: len(responses)}
    codes = {response.body.get("code", response.body.get("reason")) for response in responses}
    assert codes == {"database_unavailable", "the database does not respond"}
    slowest = max(response.seconds for response in [*responses, *clients.refused])
    record_property("products", len(clients.accepted))
    record_property("refused uploads", len(clients.refused))
    record_property("slowest response", f"{slowest:.1f} s")
    assert slowest < MAX_RESPONSE_SECONDS
    assert worker.poll() is None
    heartbeat = "SELECT heartbeat_at FROM gpu_workers"
    last = stack.rows(heartbeat)
    wait_until(lambda: stack.rows(heartbeat) > last, 30, "the worker's heartbeat is written again")
    assert_complete(stack, clients.accepted)


def test_connection_cut_between_commit_and_response_loses_and_doubles_nothing(
    installation: Installation, record_property: Record
) -> None:
    """The server has committed, and the process cannot know. It must not delete what the rows refer to."""
    stack, relay = installation.stack, installation.relay
    worker = stack.start_worker()
    accepted = {}
    for number in range(6):
        relay.cut_after = b"COMMIT\0"
        first = stack.upload([jpeg(2 * number), jpeg(2 * number + 1)], sku=f"cut {number}")
        relay.cut_after = b""
        assert (first.status, first.body["code"]) == (503, "database_unavailable")
        again = stack.upload([jpeg(2 * number), jpeg(2 * number + 1)], sku=f"cut {number}")
        assert again.status in (200, 201), again
        accepted[again.body["product_id"]] = 2
    wait_until_idle(stack)
    relay.cut_after = b"COMMIT\0"
    before, ends = relay.cuts, time.monotonic() + 10
    stack.execute("UPDATE product_images SET state = 'pending', updated_at = now()")
    wait_until(lambda: relay.cuts > before + 3 and time.monotonic() > ends, 60, "the worker meets the fault")
    relay.cut_after = b""
    record_property("cut commits", relay.cuts)
    assert worker.poll() is None
    wait_until_idle(stack)
    assert stack.rows("SELECT state, attempts, count(*) FROM product_images GROUP BY 1, 2") == [("ready", 0, 12)]
    assert stack.rows("SELECT count(*), count(DISTINCT image_id) FROM features") == [(12, 12)]
    assert stack.rows("SELECT count(*), count(DISTINCT sku) FROM products") == [(6, 6)]
    assert set(accepted) == {pk for (pk,) in stack.rows("SELECT id FROM products")}
    stack.manage("verify", "--fix")
    assert stack.manage("verify") == "No problems found.\n"


@pytest.mark.parametrize("timeout", ["idle_in_transaction_session_timeout", "transaction_timeout", "statement_timeout"])
def test_transactions_that_the_server_ends_lose_nothing(installation: Installation, timeout: str) -> None:
    stack = installation.stack
    is_statement = timeout == "statement_timeout"
    slow = {"FAULT_SECONDS_PER_COMMIT": "0" if is_statement else "0.1", "FAULT_SECONDS_PER_IMAGE": "0.05"}
    assert stack.web is not None
    stack.stop(stack.web)
    stack.start_web(**slow)
    worker = stack.start_worker(**slow)
    accepted = {stack.upload([jpeg(seed) for seed in range(4)]).body["product_id"]: 4 for _ in range(2)}
    wait_until(lambda: stack.claimed() > 0, 60, "the worker claims images")
    milliseconds = 1 if is_statement else 50
    stack.execute(f"ALTER DATABASE catalogmatch SET {timeout} = {milliseconds}")
    end_connections(stack)
    responses = [stack.upload([jpeg(seed) for seed in range(4)]) for _ in range(4)]
    time.sleep(5)
    reset(stack, timeout)
    end_connections(stack)
    accepted |= {response.body["product_id"]: 4 for response in responses if response.status == 201}
    refused = [response for response in responses if response.status != 201]
    assert {(response.status, response.body["code"]) for response in refused} <= {(503, "database_unavailable")}
    assert refused or is_statement
    assert worker.poll() is None
    assert_complete(stack, accepted)


def reset(stack: Stack, timeout: str) -> None:
    stack.execute(f"SET {timeout} = 0; ALTER DATABASE catalogmatch RESET {timeout}")


def end_connections(stack: Stack) -> None:
    """End the sessions of web and worker, so that new ones take new settings."""
    stack.execute(
        "SET statement_timeout = 0; SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
