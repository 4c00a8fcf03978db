"""Messages that are delivered three times, and products that are deleted during embedding."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.integrity import MAX_CLAIM_SECONDS, ClaimWatch, assert_intact, wait_until_idle
from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

Record = Callable[[str, object], None]

MANY = [jpeg(seed) for seed in range(24)]


def start_workers(stack: Stack, number: int, **env: str) -> None:
    """Start workers, the first with the beat."""
    for each in range(number):
        stack.launch_worker(beat="" if each else "-B", **env)
    wait_until(lambda: stack.log("worker").count(" ready.") == number, 60, "the workers are ready")


def test_messages_delivered_three_times_embed_each_image_once(either_stack: Stack, record_property: Record) -> None:
    stack = either_stack
    often = {"FAULT_DELIVERIES": "3"}
    assert stack.web is not None
    stack.stop(stack.web)
    stack.start_web(**often)
    start_workers(stack, 3, FAULT_SECONDS_PER_IMAGE="0.02", **often)
    with ThreadPoolExecutor(4) as pool, ClaimWatch(stack) as watch:
        candidate = stack.upload(MANY[:1], wait=30, is_historical="true").body["product_id"]
        stack.wait_for_states(candidate, ready=1)
        assert stack.match_image(MANY[0], wait=30).status == 200
        uploads = [pool.submit(stack.upload, MANY, wait=number % 2) for number in range(12)]
        responses = [pool.submit(stack.match_image, MANY[0], 30) for _ in range(6)]
        products = {upload.result().body["product_id"]: len(MANY) for upload in uploads}
        wait_until_idle(stack)
    assert {response.result().body["matches"][0]["product_id"] for response in responses} == {candidate}
    wait_until(
        lambda: not stack.rows("SELECT id FROM products WHERE unmatched_since IS NOT NULL"), 60, "all are matched"
    )
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    assert_intact(stack, products | {candidate: 1})
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    assert sorted(stack.rows("SELECT product_id, candidate_id FROM matches")) == [
        (pk, candidate) for pk in sorted(products)
    ]
    assert "Traceback" not in stack.log("worker") + stack.log("web")


def test_products_deleted_during_embedding_leave_nothing(either_stack: Stack, record_property: Record) -> None:
    stack = either_stack
    start_workers(stack, 2, FAULT_SECONDS_PER_COMMIT="0.05")
    choice = random.Random(4)
    with ThreadPoolExecutor(4) as pool, ClaimWatch(stack) as watch:
        historical = [number % 2 == 0 for number in range(40)]
        uploads = [pool.submit(stack.upload, MANY[:8], is_historical=str(each).lower()) for each in historical]
        deletions = {}
        for upload in uploads:
            product_id = upload.result().body["product_id"]
            if choice.random() < 0.5:
                deletions[product_id] = pool.submit(stack.call, "DELETE", f"/api/products/{product_id}")
        assert {deletion.result().status for deletion in deletions.values()} == {204}
        wait_until_idle(stack)
    wait_until(
        lambda: not stack.rows("SELECT id FROM products WHERE unmatched_since IS NOT NULL"), 60, "all are matched"
    )
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    record_property("deleted", len(deletions))
    product_ids = [upload.result().body["product_id"] for upload in uploads]
    assert_intact(stack, {product_id: 8 for product_id in product_ids if product_id not in deletions})
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    found = {match["product_id"] for match in stack.match_image(MANY[0], wait=30).body["matches"]}
    assert found
    assert not found & set(deletions)
    in_matches = stack.rows("SELECT product_id FROM matches UNION SELECT candidate_id FROM matches")
    assert not {product_id for (product_id,) in in_matches} & set(deletions)
    assert {stack.call("GET", f"/api/products/{product_id}").status for product_id in deletions} == {404}
    assert "Traceback" not in stack.log("worker") + stack.log("web")
