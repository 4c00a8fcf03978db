"""The queue with a real Redis and real workers: no image is lost or embedded twice after any failure."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

SLOW = {"FAULT_SECONDS_PER_IMAGE": "0.1"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("installation")) as running:
        yield running


@pytest.fixture
def stack(installation: Stack) -> Iterator[Stack]:
    """Return the installation without workers. Workers that the test starts end with it."""
    yield installation
    installation.stop_workers()
    installation.execute("DELETE FROM gpu_workers")


def batch(first: int, count: int = 32) -> list[bytes]:
    return [jpeg(seed) for seed in range(first, first + count)]


def test_images_wait_for_a_worker_and_are_embedded_by_it(stack: Stack) -> None:
    uploaded = stack.upload(batch(0, 3), sku="waits").body
    assert (uploaded["status"], uploaded["features_extracted"]) == ("pending", False)
    assert stack.states(uploaded["product_id"]) == {"pending": 3}
    stack.start_worker()
    stack.wait_for_states(uploaded["product_id"], ready=3)


def test_upload_with_wait_returns_its_features(stack: Stack) -> None:
    stack.start_worker()
    response = stack.upload(batch(10, 1), wait=60)
    assert (response.status, response.body["status"], response.body["feature_type"]) == (201, "success", "legacy")


def test_upload_with_wait_is_embedded_before_bulk_images(stack: Stack) -> None:
    bulk = [stack.upload(batch(100 + 32 * number)).body["product_id"] for number in range(3)]
    stack.start_worker(**SLOW)
    assert stack.upload(batch(20, 1), wait=60).body["status"] == "success"
    assert any("pending" in stack.states(product_id) for product_id in bulk)


def test_worker_killed_during_a_batch_loses_and_duplicates_nothing(stack: Stack) -> None:
    product_id = stack.upload(batch(200, 12)).body["product_id"]
    worker = stack.start_worker(**SLOW)
    stack.wait_for_states(product_id, claimed=12)
    stack.stop(worker, signal.SIGKILL)
    assert stack.states(product_id) == {"claimed": 12}
    stack.start_worker()
    stack.wait_for_states(product_id, ready=12)
    assert stack.features(product_id) == 12
    assert set(stack.rows("SELECT attempts, error_code FROM product_images WHERE product_id = ?", product_id)) == {
        (0, "")
    }


def test_stopping_worker_finishes_its_batch_and_claims_no_other(stack: Stack) -> None:
    products = [stack.upload(batch(300 + 16 * number, 16)).body["product_id"] for number in range(3)]
    worker = stack.start_worker(**SLOW)
    wait_until(lambda: stack.claimed() > 0, 60, "a batch is claimed")
    stack.stop(worker, signal.SIGTERM)
    states = sum((stack.states(product_id) for product_id in products), start=type(stack.states(0))())
    assert states == {"ready": 32, "pending": 16}
    attempts = stack.rows("SELECT DISTINCT attempts FROM product_images")
    assert attempts == [(0,)]


def test_only_the_damaged_image_of_a_batch_fails(stack: Stack) -> None:
    product_id = stack.upload(batch(400)).body["product_id"]
    [(image_id, name)] = stack.rows(
        "SELECT id, file FROM product_images WHERE product_id = ? AND position = 17", product_id
    )
    (stack.media / name).write_bytes(b"\xff\xd8\xff garbage")
    stack.start_worker()
    stack.wait_for_states(product_id, ready=31, failed=1)
    assert stack.rows("SELECT id, error_code, attempts FROM product_images WHERE state = 'failed'") == [
        (image_id, "image_corrupt", 3)
    ]
    assert stack.features(product_id) == 31


def test_only_the_image_that_kills_its_worker_fails(stack: Stack) -> None:
    files = batch(500)
    files[9] = jpeg(1, (96, 77))
    product_id = stack.upload(files).body["product_id"]
    deadline = time.monotonic() + 180
    # In production systemd or a container restarts the worker each time.
    while stack.states(product_id) != {"ready": 31, "failed": 1} and time.monotonic() < deadline:
        worker = stack.start_worker(FAULT_DEADLY_SIDE="77")
        wait_until(
            lambda: worker.poll() is not None or stack.states(product_id) == {"ready": 31, "failed": 1},  # noqa: B023
            deadline - time.monotonic(),
            lambda: f"the worker dies or is done: {stack.states(product_id)}",
        )
    failed = stack.rows(
        "SELECT position, error_code, attempts FROM product_images WHERE state = 'failed' AND product_id = ?",
        product_id,
    )
    assert failed == [(9, "worker_lost", 3)]
    assert stack.features(product_id) == 31


def test_uploads_are_accepted_while_redis_is_down_and_embedded_afterwards(stack: Stack) -> None:
    stack.start_worker()
    stack.redis.stop()
    try:
        with ThreadPoolExecutor(4) as pool:
            responses = list(pool.map(lambda seed: stack.upload(batch(seed, 1), wait=5), range(600, 612)))
    finally:
        stack.redis.start()
    assert {(response.status, response.body["status"]) for response in responses} == {(201, "pending")}
    for response in responses:
        stack.wait_for_states(response.body["product_id"], ready=1)


def test_images_with_lost_messages_are_embedded(stack: Stack) -> None:
    stack.start_worker()
    product_id = stack.upload(batch(700, 2), wait=60).body["product_id"]
    stack.redis.command("FLUSHALL")
    stack.execute("UPDATE product_images SET state = 'pending' WHERE product_id = ?", product_id)
    stack.wait_for_states(product_id, ready=2)


def test_query_image_is_matched_by_the_worker(stack: Stack) -> None:
    stack.start_worker()
    candidate = stack.upload(batch(800, 1), wait=60, is_historical="true").body["product_id"]
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: stack.match_image(jpeg(800), wait=60), range(16)))
    assert {response.status for response in responses} == {200}
    assert {response.body["matches"][0]["product_id"] for response in responses} == {candidate}


def test_new_product_is_matched_by_the_worker(stack: Stack) -> None:
    stack.start_worker()
    candidate = stack.upload(batch(900, 1), wait=60, is_historical="true").body["product_id"]
    new = stack.upload([jpeg(900, angle=4)], wait=60).body["product_id"]
    matches = "SELECT candidate_id FROM matches WHERE product_id = ? AND rank = 1"
    wait_until(lambda: stack.rows(matches, new) == [(candidate,)], 60, "the new product has its match")


@pytest.mark.parametrize("wait", [0, 0.5])
def test_query_without_a_worker_gets_a_response_in_time(stack: Stack, wait: float) -> None:
    response = stack.match_image(jpeg(1), wait=wait)
    assert (response.status, response.body["code"]) == (503, "features_pending")


def test_query_without_redis_gets_a_response_in_time(stack: Stack) -> None:
    stack.redis.stop()
    try:
        response = stack.match_image(jpeg(1), wait=2)
    finally:
        stack.redis.start()
    assert (response.status, response.body["code"]) == (503, "features_pending")


def test_readiness_depends_on_the_progress_of_the_queue(stack: Stack) -> None:
    product_id = stack.upload(batch(1000, 1)).body["product_id"]
    assert stack.call("GET", "/readyz").status == 200
    stack.execute("UPDATE product_images SET updated_at = '2020-01-01' WHERE product_id = ?", product_id)
    stack.execute("UPDATE product_images SET updated_at = '2020-01-01' WHERE state IN ('ready', 'failed')")
    response = stack.call("GET", "/readyz")
    assert (response.status, response.body["status"]) == (503, "not ready")
    stack.start_worker()
    stack.wait_for_states(product_id, ready=1)
    assert stack.call("GET", "/readyz").status == 200


def test_paused_queue_stays_paused_for_new_workers_while_queries_are_matched(stack: Stack) -> None:
    script = (
        "from django.contrib.auth.models import User; from products.queue import claims;"
        "claims.set_paused({paused}, User.objects.get(username='manager'))"
    )
    stack.start_worker()
    stack.manage("shell", "--no-imports", "--command", script.format(paused=True))
    product_id = stack.upload(batch(1100, 3), wait=5).body["product_id"]
    stack.stop_workers()
    stack.start_worker()
    assert stack.match_image(jpeg(1), wait=60).status == 200
    assert stack.states(product_id) == {"pending": 3}
    stack.manage("shell", "--no-imports", "--command", script.format(paused=False))
    stack.wait_for_states(product_id, ready=3)
