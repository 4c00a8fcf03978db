"""Workers that are killed, frozen or hang: no image is lost or embedded twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.integrity import MAX_CLAIM_SECONDS, ClaimWatch, assert_intact, wait_until_idle
from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

Record = Callable[[str, object], None]

KILLS = 20
HUNDRED = [jpeg(seed) for seed in range(100)]


def test_no_image_is_lost_over_twenty_killed_workers(stack: Stack, record_property: Record) -> None:
    moments = random.Random(20)
    with ThreadPoolExecutor(1) as pool, ClaimWatch(stack) as watch:
        uploads = [pool.submit(stack.upload, HUNDRED, sku=f"box {number}") for number in range(20)]
        for _ in range(KILLS):
            worker = stack.start_worker(FAULT_SECONDS_PER_IMAGE="0.02")
            wait_until(lambda: stack.claimed() > 0, 60, "the worker claims images")
            time.sleep(moments.uniform(0, 0.3))
            stack.stop(worker, signal.SIGKILL)
        stack.start_worker()
        accepted = {upload.result().body["product_id"]: 100 for upload in uploads}
        wait_until_idle(stack)
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    assert_intact(stack, accepted)
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    assert "Released" in stack.log("worker")
    assert stack.upload([jpeg(1000)], wait=30).body["status"] == "success"


def test_frozen_worker_that_resumes_late_stores_nothing(stack: Stack, record_property: Record) -> None:
    products = [stack.upload(HUNDRED[:8]).body["product_id"] for _ in range(4)]
    # Only this worker has this long lease: it would keep its claim for an hour.
    late = stack.start_worker(FAULT_SECONDS_PER_IMAGE="0.2", CATALOGMATCH_CLAIM_LEASE_SECONDS="3600")
    wait_until(lambda: stack.claimed() == 32, 60, "it has claimed all images")
    late.send_signal(signal.SIGSTOP)
    try:
        with ClaimWatch(stack) as watch:
            stack.start_worker()
            wait_until_idle(stack)
        assert stack.call("DELETE", f"/api/products/{products[0]}").status == 204
    finally:
        late.send_signal(signal.SIGCONT)
    wait_until(lambda: "given to another worker" in stack.log("worker"), 180, "the late worker is done")
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    assert_intact(stack, dict.fromkeys(products[1:], 8))


def test_only_images_that_crash_or_hang_the_worker_fail(stack: Stack, record_property: Record) -> None:
    files = HUNDRED[:32]
    files[9], files[20], files[25] = (jpeg(1, (96, height)) for height in (77, 75, 73))
    product_id = stack.upload(files).body["product_id"]
    expected = {"ready": 29, "failed": 3}
    deadline = time.monotonic() + 120
    with ClaimWatch(stack) as watch:
        # In production systemd or a container restarts the worker each time.
        while stack.states(product_id) != expected and time.monotonic() < deadline:
            worker = stack.start_worker(FAULT_DEADLY_SIDE="77", FAULT_ENDLESS_SIDE="75", FAULT_DEAF_SIDE="73")
            wait_until(
                lambda: worker.poll() is not None or stack.states(product_id) == expected,  # noqa: B023
                deadline - time.monotonic(),
                lambda: f"the worker ends or is done: {stack.states(product_id)}",
            )
            stack.stop_workers()
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    failed = "SELECT position, error_code, attempts FROM product_images WHERE state = 'failed' ORDER BY position"
    assert stack.rows(failed) == [(position, "worker_lost", 3) for position in (9, 20, 25)]
    assert_intact(stack, {product_id: 32}, failed=3)
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    assert "Timeout (0:00:05)!" in stack.log("worker")  # followed by the stacks of its threads
