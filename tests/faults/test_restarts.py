"""Fifty restarts of web server, workers and beat at random moments during continuous uploads."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from http.client import HTTPException

import pytest

from tests.faults.integrity import MAX_CLAIM_SECONDS, ClaimWatch, assert_intact, wait_until_idle
from tests.helpers.processes import Stack
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

Record = Callable[[str, object], None]

RESTARTS = 50
# The limit for the first response after a restart.
MAX_FIRST_RESPONSE_SECONDS = 10.0


class Client(threading.Thread):
    """Upload one product after another. After a lost response, send the product again with the same SKU."""

    def __init__(self, stack: Stack, name: str) -> None:
        super().__init__(name=name)
        self._stack = stack
        self.stopping = threading.Event()
        self.accepted: dict[int, int] = {}

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            files = [jpeg(seed) for seed in range(number % 4 + 1)]
            while not self._upload(files, f"{self.name} {number}"):
                time.sleep(0.05)

    def _upload(self, files: list[bytes], sku: str) -> bool:
        try:
            response = self._stack.upload(files, sku=sku)
        except (OSError, HTTPException):
            return False
        assert response.status in (200, 201), response
        self.accepted[response.body["product_id"]] = len(files)
        return True


def test_no_image_is_lost_over_fifty_restarts_at_random_moments(stack: Stack, record_property: Record) -> None:
    chance = random.Random(50)
    processes = {"web": stack.web, "worker": stack.start_worker(beat=""), "beat": stack.start_beat()}
    starts = {"worker": lambda: stack.launch_worker(beat=""), "beat": stack.start_beat}
    first_responses = []
    clients = [Client(stack, f"client {number}") for number in range(2)]
    for client in clients:
        client.start()
    try:
        with ClaimWatch(stack) as watch:
            for _ in range(RESTARTS):
                time.sleep(chance.uniform(0, 0.6))
                which = chance.choice(["web", "web", "worker", "worker", "beat"])
                process = processes[which]
                assert process is not None
                stack.stop(process, chance.choice([signal.SIGTERM, signal.SIGKILL]))
                if which == "web":
                    first_responses.append(stack.start_web())
                    processes["web"] = stack.web
                else:
                    processes[which] = starts[which]()
            for client in clients:
                client.stopping.set()
            for client in clients:
                client.join()
            wait_until_idle(stack)
    finally:
        for client in clients:
            client.stopping.set()
    accepted = clients[0].accepted | clients[1].accepted
    record_property("products", len(accepted))
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    record_property("slowest first response", f"{max(first_responses):.1f} s")
    assert_intact(stack, accepted, uploads_died=True)
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    assert max(first_responses) < MAX_FIRST_RESPONSE_SECONDS
    assert stack.upload([jpeg(9)], wait=30).body["status"] == "success"
