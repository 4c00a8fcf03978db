"""The system clock is set forward or back by a day while images are embedded."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.compiler import compile_library
from tests.faults.integrity import MAX_CLAIM_SECONDS, ClaimWatch, wait_until_idle
from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

Record = Callable[[str, object], None]

DAY = 86_400
EIGHT = [jpeg(seed) for seed in range(8)]
SLOW = {"FAULT_SECONDS_PER_IMAGE": "0.05"}
UNMATCHED = "SELECT count(*) FROM products WHERE unmatched_since IS NOT NULL"


class MovedClock:
    """The clock of all processes of an installation."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "moved-clock"
        self.env = {
            "LD_PRELOAD": str(compile_library(Path(__file__).with_name("moved_clock.c"), folder)),
            "MOVED_CLOCK": str(self._file),
        }

    def move(self, seconds: int) -> None:
        self._file.write_text(str(seconds))


@pytest.fixture
def clock(tmp_path: Path) -> MovedClock:
    return MovedClock(tmp_path)


@pytest.fixture
def stack(tmp_path: Path, clock: MovedClock) -> Iterator[Stack]:
    with Stack(tmp_path, CATALOGMATCH_API_RATE="1000/min", **clock.env) as running:
        yield running


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_clock_that_jumps_by_a_day_loses_and_delays_nothing(
    stack: Stack, clock: MovedClock, jump: int, record_property: Record
) -> None:
    stack.start_beat()
    worker = stack.start_worker(beat="", **SLOW)
    accepted = {stack.upload(EIGHT, is_historical="true").body["product_id"]: 8 for _ in range(4)}
    with ClaimWatch(stack) as watch:
        wait_until(lambda: stack.claimed() > 0, 60, "the worker claims images")
        stack.stop(worker, signal.SIGKILL)
        assert stack.claimed() > 0
        clock.move(jump)
        worker = stack.start_worker(beat="", **SLOW)
        orphans = wait_until_idle(stack, 30)
        # A second jump, with a living worker in the middle of a batch.
        accepted |= {stack.upload(EIGHT).body["product_id"]: 8 for _ in range(4)}
        wait_until(lambda: stack.claimed() > 0, 60, "the worker claims images")
        clock.move(0)
        wait_until_idle(stack, 30)
        # Images wait whose message is lost, so only the schedule can find them.
        stack.redis.command("FLUSHALL")
        clock.move(jump)
        product = next(iter(accepted))
        stack.execute("UPDATE product_images SET state = 'pending' WHERE product_id = ?", product)
        found = wait_until_idle(stack, 30)
    record_property("orphaned claim released", f"after {orphans:.1f} s")
    record_property("lost image found", f"after {found:.1f} s")
    record_property("longest claim", f"{watch.longest_claim:.1f} of {MAX_CLAIM_SECONDS} s")
    assert watch.longest_claim < MAX_CLAIM_SECONDS
    wait_until(lambda: stack.rows(UNMATCHED) == [(0,)], 60, "all are matched")
    assert worker.poll() is None
    assert stack.call("GET", "/readyz").status == 200
    assert stack.rows("SELECT count(*), count(DISTINCT image_id) FROM features") == [(64, 64)]
    assert stack.upload([jpeg(99)], wait=30).body["status"] == "success"
    assert stack.match_image(EIGHT[0], wait=30).status == 200


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_client_is_not_throttled_for_longer_after_the_clock_jumps(stack: Stack, clock: MovedClock, jump: int) -> None:
    for _ in range(600):
        assert stack.call("GET", "/api/queue").status == 200
    clock.move(jump)
    statuses = {stack.call("GET", "/api/queue").status for _ in range(600)}
    assert statuses == {200}
